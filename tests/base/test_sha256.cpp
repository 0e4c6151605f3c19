#include "base/sha256.h"
#include "catch.h"

using namespace blockgtq;

// The examples of FIPS 180-2, appendix B, and the empty text.
TEST_CASE("SHA-256 known answers") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256_hex(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on how the bytes arrive") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += char(i * 7);
  for (const size_t piece : {1, 63, 64, 65, 999}) {
    Sha256 hash;
    for (size_t i = 0; i < text.size(); i += piece) hash.update(std::string_view(text).substr(i, piece));
    hash.update(std::span<const std::byte>());
    CHECK(hash.hex() == sha256_hex(text));
  }
  Sha256 hash;
  hash.hex();
  CHECK_THROWS_AS(hash.hex(), std::logic_error);
  CHECK_THROWS_AS(hash.update("x"), std::logic_error);
}
