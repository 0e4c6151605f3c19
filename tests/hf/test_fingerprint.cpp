#include "base/error.h"
#include "base/expect_error.h"
#include "base/parallel.h"
#include "base/sha256.h"
#include "catch.h"
#include "hf/fingerprint.h"
#include "safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr size_t kPiece = 16 << 20;

std::string length_of(size_t n) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = char(n >> (8 * i) & 0xff);
  return length;
}

}  // namespace

TEST_CASE("fingerprint: lengths and pieces, in the order of the files", "[fingerprint]") {
  TempDir dir;
  const std::string a = "one", b;
  write_bytes(dir / "a", a);
  write_bytes(dir / "b", b);
  CHECK(Fingerprint({dir / "a"}).hex() == sha256_hex(length_of(3) + sha256_hex(a)));
  CHECK(Fingerprint({dir / "b", dir / "a"}).hex() == sha256_hex(length_of(0) + length_of(3) + sha256_hex(a)));
  CHECK(Fingerprint({}).hex() == sha256_hex(""));
}

TEST_CASE("fingerprint: every byte counts, and no number of threads", "[fingerprint]") {
  TempDir dir;
  std::string bytes(2 * kPiece + 5, '\0');
  for (size_t i = 0; i < bytes.size(); i += 997) bytes[i] = char(i);
  write_bytes(dir / "large", bytes);
  const std::string expected = sha256_hex(
      length_of(bytes.size()) + sha256_hex(std::string_view(bytes).substr(0, kPiece)) +
      sha256_hex(std::string_view(bytes).substr(kPiece, kPiece)) + sha256_hex(bytes.substr(2 * kPiece)));
  for (const int n : {1, 2, 5}) {
    set_threads(n);
    CHECK(Fingerprint({dir / "large"}).hex() == expected);
  }
  set_threads(0);
  for (const size_t at : {size_t(0), kPiece / 3, kPiece - 1, kPiece, 2 * kPiece + 4}) {
    bytes[at] ^= 1;
    write_bytes(dir / "large", bytes);
    CAPTURE(at);
    CHECK(Fingerprint({dir / "large"}).hex() != expected);
    CHECK(shared_fingerprint({dir / "large"})->hex() != expected);  // a new file's time stamp proves nothing
    bytes[at] ^= 1;
  }
}

TEST_CASE("fingerprint: one for all who ask, until the file changes", "[fingerprint]") {
  TempDir dir;
  write_bytes(dir / "a", "one");
  fs::last_write_time(dir / "a", fs::last_write_time(dir / "a") - std::chrono::hours(1));
  const auto first = shared_fingerprint({dir / "a"});
  CHECK(first == shared_fingerprint({dir / "a"}));
  const std::string of_one = first->hex();
  write_bytes(dir / "a", "two");
  CHECK(shared_fingerprint({dir / "a"})->hex() != of_one);
}

TEST_CASE("fingerprint: what is no file", "[fingerprint]") {
  TempDir dir;
  CHECK_THAT(expect_error(Exit::input, [&] { Fingerprint({dir / "none"}); }),
             ContainsSubstring("none: cannot open: "));
  CHECK_THAT(expect_error(Exit::input, [&] { Fingerprint({dir.path()}); }),
             ContainsSubstring("not a regular file"));
}
