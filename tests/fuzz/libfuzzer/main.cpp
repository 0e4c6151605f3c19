// libFuzzer's side: fuzz_readers --reader=json FOLDER ... -max_total_time=120
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fuzz/reader.h"

namespace {
const blockgtq::Reader* chosen = nullptr;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "--reader=";
  for (int i = 1; i < *argc; ++i)
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) == 0)
      for (const blockgtq::Reader& reader : blockgtq::readers())
        if (std::strcmp((*argv)[i] + std::strlen(kOption), reader.name) == 0) chosen = &reader;
  if (chosen) return 0;
  std::fprintf(stderr, "--reader=NAME is needed, one of:");
  for (const blockgtq::Reader& reader : blockgtq::readers()) std::fprintf(stderr, " %s", reader.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  blockgtq::try_reader(*chosen, {reinterpret_cast<const char*>(data), size});
  return 0;
}
