#include <set>

#include "cache/page_layout.h"
#include "catch.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("page layout: every bit of 32 codes has a place of its own", "[cache]") {
  for (int bits = 1; bits <= 8; ++bits) {
    std::set<int> taken;
    for (int i = 0; i < 4; ++i)
      for (int p = 0; p < 8; ++p)
        for (int k = 0; k < bits; ++k) {
          const CodeBit b = code_bit(bits, i, p, k);
          REQUIRE((b.word >= 0 && b.word < bits && b.bit >= 0 && b.bit < 32));
          REQUIRE(taken.insert(32 * b.word + b.bit).second);
          REQUIRE((b.bit < 16) == (p < 4));  // half a quad lives in the low halves
        }
    for (uint32_t index = 0; index < 1u << bits; ++index)
      REQUIRE(centroid_index(bits, stored_code(bits, index)) == index);
    const uint32_t half = 1u << (bits - 1);
    for (uint32_t stored = 0; stored < 1u << bits; ++stored) {  // the lowest three bits have the sign
      REQUIRE(centroid_index(bits, stored) < 1u << bits);
      REQUIRE((centroid_index(bits, stored) < half) == (centroid_index(bits, stored & 7) < half));
    }
  }
}

TEST_CASE("page layout: positions and coordinates of a unit have places of their own", "[cache]") {
  std::set<int> keys, values, norms, halves;
  for (int t = 0; t < kPagePositions; ++t) {
    norms.insert(norm_place(t));
    for (int j = 0; j < 4; ++j) {
      const CodePlace at = key_place(t, j, false);
      REQUIRE((at.lane >= 0 && at.lane < 8 && at.i >= 0 && at.i < 4 && at.p >= 0 && at.p < 8));
      if (j < 2) halves.insert((key_place(t, j, true).lane * 4 + at.i) * 8 + key_place(t, j, true).p);
      if (j < 2) REQUIRE(key_place(t, j, true).p < 4);
      keys.insert((at.lane * 4 + at.i) * 8 + at.p);
    }
    for (int j = 0; j < 2; ++j) {
      const CodePlace at = value_place(t, j);
      REQUIRE((at.lane >= 0 && at.lane < 4 && at.i >= 0 && at.i < 4 && at.p >= 0 && at.p < 8));
      values.insert((at.lane * 4 + at.i) * 8 + at.p);
    }
  }
  REQUIRE(keys.size() == 256);
  REQUIRE(values.size() == 128);
  REQUIRE(halves.size() == 128);
  REQUIRE(*norms.rbegin() == 63);
  REQUIRE(norms.size() == 64);
}

TEST_CASE("page layout: true bits, no padding", "[cache]") {
  for (const int dim : {64, 80, 96, 128, 256})
    for (int n = 1; n <= 8; ++n) {
      const std::vector<GroupWidth> groups = test::mixed_groups(dim, n, uint64_t(dim * 10 + n));
      int bits = 0;
      for (const GroupWidth& g : groups) bits += g.d * g.bits;
      for (const CodeStream& s : {key_stream(groups), value_stream(groups)}) {
        REQUIRE(s.bytes == 8 * bits);  // 64 positions
        REQUIRE(s.n_slabs() <= dim / kSlab + 1);
        std::set<int> coordinates;
        for (int slab = 0; slab < s.n_slabs(); ++slab)
          for (int place = 0; place < kSlab; ++place) {
            const int j =
                s.units_per_slab == 4 ? key_coordinate(s, slab, place) : value_coordinate(s, slab, place);
            if (j >= 0) REQUIRE(coordinates.insert(j).second);
          }
        REQUIRE(int(coordinates.size()) == dim);
        for (const CodeUnit& u : s.units) REQUIRE(u.offset % 16 == 0);
      }
      REQUIRE(value_stream(groups).n_slabs() == dim / kSlab);
    }
  // K3V3 at D = 128: 512 bytes of fp16 become 100.
  const std::vector<GroupWidth> three = {{128, 3}};
  REQUIRE(block_shape(three, true, three, true).bytes == 100 * kPagePositions);
}
