// Host side of encode.cu: see encode_table.cuh for what is built.
#include <algorithm>
#include <cstring>

#include "base/float16.h"
#include "check.cuh"
#include "encode_table.cuh"

namespace blockgtq::cuda {
namespace {

/// The coordinate that row k of depth step `step` stands for. 16-bit keys: a lane's 16 bytes are 8 elements
/// and feed two steps; float32: 4 elements, one step.
int coordinate(FloatType type, int step, int k) {
  const int c = k % 8 / 2, high = k / 8, odd = k % 2;
  if (type == FloatType::f32) return 16 * step + 4 * c + 2 * high + odd;
  return 32 * (step / 2) + 8 * c + 4 * (step % 2) + 2 * high + odd;
}

/// Tiles of 8 outputs that a group of dimension d takes: even, as the kernel goes over them in pairs.
int tiles(int d) {
  return (d + 15) / 16 * 2;
}

/// One head under construction.
struct Head {
  std::vector<float> thresholds;
  std::vector<uint16_t> fragments;  // 256 per tile and pair of steps: (lane, step, register, half)
};

/// Appends the fragments of one group: fp16 of R, or of what that rounding left.
void add_fragments(const GroupSpec& g, FloatType type, int dim, bool rest, Head& head) {
  const int d = int(g.coords.size()), n_tiles = tiles(d), n_pairs = (dim + 31) / 32;
  std::vector<int> place(32 * n_pairs, -1);  // of a coordinate in the group
  for (int j = 0; j < d; ++j) place[g.coords[j]] = j;
  for (int tile = 0; tile < n_tiles; ++tile)
    for (int pair = 0; pair < n_pairs; ++pair)
      for (int i = 0; i < 256; ++i) {
        const int lane = i / 8, step = i / 4 % 2, reg = i / 2 % 2, half = i % 2;
        const int column = lane / 4, k = 2 * (lane % 4) + 8 * reg + half;
        const int j = column / 2 * 2 * n_tiles + 2 * tile + column % 2;
        const int from = place[coordinate(type, 2 * pair + step, k)];
        float r = j < d && from >= 0 ? g.rotation[size_t(j) * d + from] : 0.0f;
        if (rest) r -= from_half(to_half(r));
        head.fragments.push_back(to_half(r));
      }
}

/// Writes the head into its table.
EncodeTable build_head(const CodeSpec& spec, FloatType type, int64_t bytes_before, Head& head) {
  EncodeTable t{};
  t.n_groups = int(spec.groups.size());
  t.bytes = int(spec.bytes);
  t.bytes_before = bytes_before;
  for (int i = 0; i < t.n_groups; ++i) {
    const GroupSpec& g = spec.groups[i];
    EncodeGroup& to = t.groups[i];
    to.d = int(g.coords.size());
    to.bits = g.bits;
    to.n_tiles = tiles(to.d);
    to.norm_byte = int(g.norm_byte);
    to.bit_offset = int(g.bit_offset);
    to.thresholds = int(head.thresholds.size());
    // The codebook is symmetric: the middle boundary is zero, and those above it are enough.
    const size_t middle = g.boundaries.size() / 2;
    check(g.boundaries[middle] == 0, "Encoder: a codebook that is not symmetric");
    head.thresholds.insert(head.thresholds.end(), g.boundaries.begin() + middle + 1, g.boundaries.end());
    to.high = int(head.fragments.size() / 8);
    add_fragments(g, type, spec.dim, false, head);
    to.low = g.bits >= kFineBits ? int(head.fragments.size() / 8) : -1;
    if (to.low >= 0) add_fragments(g, type, spec.dim, true, head);
  }
  t.thresholds = sizeof(EncodeTable);
  t.fragments = int((t.thresholds + head.thresholds.size() * sizeof(float) + 15) / 16 * 16);
  return t;
}

}  // namespace

std::vector<uint8_t> build_encode_tables(const std::vector<CodeSpec>& heads, FloatType type,
                                         int64_t& table_bytes) {
  std::vector<Head> parts(heads.size());
  std::vector<EncodeTable> tables;
  int64_t bytes_before = 0;
  table_bytes = 0;
  for (size_t h = 0; h < heads.size(); ++h) {
    tables.push_back(build_head(heads[h], type, bytes_before, parts[h]));
    bytes_before += int64_t(heads[h].bytes);
    table_bytes =
        std::max(table_bytes, int64_t(tables[h].fragments + parts[h].fragments.size() * sizeof(uint16_t)));
  }
  std::vector<uint8_t> all(size_t(table_bytes) * heads.size());
  for (size_t h = 0; h < heads.size(); ++h) {
    uint8_t* to = all.data() + h * table_bytes;
    std::memcpy(to, &tables[h], sizeof(EncodeTable));
    std::memcpy(to + tables[h].thresholds, parts[h].thresholds.data(),
                parts[h].thresholds.size() * sizeof(float));
    std::memcpy(to + tables[h].fragments, parts[h].fragments.data(),
                parts[h].fragments.size() * sizeof(uint16_t));
  }
  return all;
}

}  // namespace blockgtq::cuda
