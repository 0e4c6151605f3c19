// Files damaged on the way: cut short, or with bytes changed. Every one must be refused with one line or
// read, and never bring the process down; so the reading happens in a child, and a crash is reported with the
// byte that caused it.
#include <sys/mman.h>

#include <new>

#include "base/error.h"
#include "catch.h"
#include "samples.h"

using namespace blockgtq;

namespace {

struct Tally {
  size_t at = 0;  // what was being tried
  int refused = 0, read = 0, wrong = 0;
  char message[200] = "";  // of the last wrong refusal
};

/// Reads every variant of a file in a child. make(i) is variant i of n.
Tally try_all(const std::string& kind, size_t n, const std::function<std::string(size_t)>& make) {
  void* shared = mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  Tally* tally = new (shared) Tally;
  const TempFolder folder;
  const fs::path path = folder / "file.h5";
  const int status = in_child([&] {
    for (size_t i = 0; i < n; ++i) {
      tally->at = i;
      put_bytes(path, make(i));
      try {
        read_kind(kind, path);
        ++tally->read;
      } catch (const Error& e) {
        const std::string text = e.what();
        const bool good = e.code == Exit::input && text.find('\n') == std::string::npos &&
                          text.rfind(path.string() + ": ", 0) == 0 &&
                          text.size() < path.string().size() + 500;
        ++(good ? tally->refused : tally->wrong);
        if (!good) text.copy(tally->message, sizeof tally->message - 1);
      } catch (const std::exception& e) {
        ++tally->wrong;
        std::string(e.what()).copy(tally->message, sizeof tally->message - 1);
      }
    }
    return 0;
  });
  const Tally result = *tally;
  munmap(shared, sizeof(Tally));
  CAPTURE(kind, result.at, std::string(result.message));
  CHECK(status == 0);
  CHECK(result.wrong == 0);
  return result;
}

std::string sound(const std::string& kind) {
  const TempFolder folder;
  write_kind(kind, folder / "sound.h5");
  return bytes_of(folder / "sound.h5");
}

}  // namespace

TEST_CASE("a file cut short at any length is refused", "[store][damage]") {
  for (const std::string& kind : kinds()) {
    const std::string bytes = sound(kind);
    const size_t n = 60;
    const Tally tally = try_all(kind, n, [&](size_t i) { return bytes.substr(0, i * bytes.size() / n); });
    CHECK(tally.refused == int(n));
    const Tally last = try_all(kind, 1, [&](size_t) { return bytes.substr(0, bytes.size() - 1); });
    CHECK(last.refused == 1);
  }
}

TEST_CASE("changed bytes are refused or harmless", "[store][damage]") {
  for (const std::string& kind : kinds()) {
    const std::string bytes = sound(kind);
    const size_t n = 80;
    for (const int flip : {0x01, 0x80, 0xff}) {
      const Tally tally = try_all(kind, n, [&](size_t i) {
        std::string damaged = bytes;
        damaged[(i * 256 + size_t(flip)) * bytes.size() / (n * 256)] ^= char(flip);  // other places each time
        return damaged;
      });
      CHECK(tally.refused + tally.read == int(n));
      // Metadata and data carry checksums: what can be changed unseen is what nobody reads (unused room in
      // blocks).
      CAPTURE(kind, tally.read, bytes.size());
      CHECK(tally.refused > 0);
    }
  }
}

TEST_CASE("damaged data are reported with the dataset's name", "[store][damage]") {
  // Every chunk of the file in turn: its bytes are found by writing the file with other content.
  const TempFolder folder;
  ActsHeader header = sample_acts(ActsType::f32, 64);
  Acts acts = sample_activations(header);
  write_acts(folder / "a.h5", header, acts);
  const std::string before = bytes_of(folder / "a.h5");
  acts.k[1].back() = 0.123f;
  write_acts(folder / "b.h5", header, acts);
  std::string after = bytes_of(folder / "b.h5");
  size_t at = 0;
  while (before[at] == after[at]) ++at;  // the chunk of layer01/k, or its address or length before it
  while (at < after.size() && before[at] == after[at]) ++at;
  std::string message;
  for (size_t i = at; i < after.size() && message.find("layer01/k: ") == std::string::npos; ++i) {
    std::string damaged = after;
    damaged[i] ^= 0x10;
    put_bytes(folder / "c.h5", damaged);
    try {
      read_kind("acts", folder / "c.h5");
    } catch (const Error& e) {
      message = e.what();
    }
  }
  CHECK_THAT(message, ContainsSubstring("c.h5: layer01/k: cannot be read: "));
}
