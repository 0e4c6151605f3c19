#include <set>

#include "base/blocks.h"
#include "base/checked.h"
#include "catch.h"
#include "expect_error.h"

using namespace blockgtq;

TEST_CASE("blocks pair the coordinates that RoPE rotates together") {
  const BlockLayout half{8, 8, Pairing::half};
  CHECK(half.coords(0) == std::array{0, 4});
  CHECK(half.coords(3) == std::array{3, 7});
  const BlockLayout interleaved{8, 8, Pairing::interleaved};
  CHECK(interleaved.coords(0) == std::array{0, 1});
  CHECK(interleaved.coords(3) == std::array{6, 7});
  // Static coordinates 4..11 behind the rotary ones pair (4 + i, 4 + i + 4) in both layouts.
  const BlockLayout partial{12, 4, Pairing::interleaved};
  CHECK(partial.coords(1) == std::array{2, 3});
  CHECK(partial.coords(2) == std::array{4, 8});
  CHECK(partial.coords(5) == std::array{7, 11});
}

TEST_CASE("every coordinate is in one block") {
  for (const Pairing pairing : {Pairing::half, Pairing::interleaved}) {
    for (int rotary = 0; rotary <= 64; rotary += 2) {
      const BlockLayout layout{64, rotary, pairing};
      std::set<int> seen;
      for (int b = 0; b < layout.n_blocks(); ++b) {
        for (const int c : layout.coords(b)) seen.insert(c);
      }
      CHECK(seen.size() == 64);
      CHECK(*seen.begin() == 0);
      CHECK(*seen.rbegin() == 63);
    }
  }
}

TEST_CASE("sizes that overflow are input errors") {
  constexpr uint64_t kMax = ~uint64_t(0);
  CHECK(checked_mul(kMax, 1, "x") == kMax);
  CHECK(checked_mul(uint64_t(1) << 32, (uint64_t(1) << 32) - 1, "x") == (kMax - 0xffffffffu));
  CHECK(expect_error(Exit::input, [] { checked_mul(uint64_t(1) << 32, uint64_t(1) << 32, "a.bin"); }) ==
        "a.bin: size overflows: 4294967296 x 4294967296");
  CHECK(checked_add(kMax, 0, "x") == kMax);
  CHECK_THAT(expect_error(Exit::input, [] { checked_add(kMax, 1, "a.bin"); }), ContainsSubstring("a.bin"));
}
