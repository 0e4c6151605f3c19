// What a command needs before it does anything.
#include "cli/command.h"

namespace blockgtq {

TEST_CASE("no CUDA library and no driver is needed to start") {
  // The dynamic linker lists what it would load, and runs nothing.
  const Outcome outcome = good({"--version"}, {"LD_TRACE_LOADED_OBJECTS=1"});
  CHECK_THAT(outcome.out, ContainsSubstring("libc.so"));
  for (const char* library : {"libcuda", "libcublas", "libnv"})
    CHECK_THAT(outcome.out, !ContainsSubstring(library));
}

TEST_CASE("threads that wait for work sleep") {
  // libgomp tells how it was set up: once as the user started the program, once as the program did.
  const Outcome outcome = good({"--version"}, {"OMP_DISPLAY_ENV=VERBOSE"});
  const size_t last = outcome.err.rfind("GOMP_SPINCOUNT");
  if (last == std::string::npos) {
    WARN("another OpenMP than GCC's: skipped");
    return;
  }
  CHECK(outcome.err.substr(last).starts_with("GOMP_SPINCOUNT = '0'"));
  const Outcome active = good({"--version"}, {"OMP_DISPLAY_ENV=VERBOSE", "OMP_WAIT_POLICY=active"});
  CHECK_THAT(active.err, !ContainsSubstring("GOMP_SPINCOUNT = '0'"));
}

}  // namespace blockgtq
