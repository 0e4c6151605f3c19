#include "quant/block_gtq.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "quant/codebook.h"
#include "quant/group_order.h"
#include "quant/packing.h"

namespace blockgtq {

namespace {

constexpr size_t kTile = 256;  // vectors whose coordinates and indices are held at a time
constexpr size_t kNormBytes = 2;
constexpr int kMaxHeadDim = 512;

// fp16 norms lie at the start of a code, low byte first.
void put_norm(uint16_t norm, uint8_t* at) {
  at[0] = uint8_t(norm);
  at[1] = uint8_t(norm >> 8);
}
uint16_t get_norm(const uint8_t* at) {
  return uint16_t(at[0] | at[1] << 8);
}

int checked_head_dim(int d) {
  check(d >= 2 && d % 2 == 0 && d <= kMaxHeadDim, "quantizer: head dimension odd or outside 2..512");
  return d;
}

// Where one group lies in a code: the byte of its norm, the first bit of its stream.
struct Place {
  size_t norm_byte, stream_bit, code_bytes;
};

// Encodes part (n, d of tq) into its place in codes (n, code_bytes), where its bits are still zero.
void put_group(const TqMse& tq, const float* part, size_t n, const Place& place, uint8_t* codes) {
  const size_t d = tq.dim(), tile = std::min(n, kTile);
  std::vector<uint8_t> indices(tile * d);
  std::vector<uint16_t> norms(tile);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    tq.encode(part + first * d, count, indices.data(), norms.data());
    for (size_t t = 0; t < count; ++t) {
      uint8_t* code = codes + (first + t) * place.code_bytes;
      put_norm(norms[t], code + place.norm_byte);
      pack_bits(&indices[t * d], d, tq.bits(), place.stream_bit, code);
    }
  }
}

// Decodes a group from its place in codes.
void get_group(const TqMse& tq, const uint8_t* codes, size_t n, const Place& place, float* part) {
  const size_t d = tq.dim(), tile = std::min(n, kTile);
  std::vector<uint8_t> indices(tile * d);
  std::vector<uint16_t> norms(tile);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t t = 0; t < count; ++t) {
      const uint8_t* code = codes + (first + t) * place.code_bytes;
      norms[t] = get_norm(code + place.norm_byte);
      unpack_bits(code, place.stream_bit, tq.bits(), d, &indices[t * d]);
    }
    tq.decode(indices.data(), norms.data(), count, part + first * d);
  }
}

// `forward` has the rows of the rotations, each over its group's coordinates. `backward` is its transpose.
LinearCode to_linear(int dim, const std::vector<CodeGroup>& groups) {
  LinearCode code;
  code.dim = dim;
  code.forward.resize(size_t(dim) * dim);
  code.backward.resize(size_t(dim) * dim);
  size_t first = 0;
  for (const CodeGroup& g : groups) {
    const size_t d = g.tq->dim();
    code.groups.push_back({int(d), g.tq->bits(), g.tq->centroids()});
    for (size_t i = 0; i < d; ++i)
      for (size_t j = 0; j < d; ++j) {
        const float r = g.tq->rotation()[i * d + j];
        code.forward[(first + i) * dim + g.coords[j]] = r;
        code.backward[size_t(g.coords[j]) * dim + first + i] = r;
      }
    first += d;
  }
  return code;
}

}  // namespace

BlockGtq::BlockGtq(const BlockLayout& layout, std::span<const uint8_t> bits, uint64_t seed, Codebook codebook)
    : dim_(checked_head_dim(layout.head_dim)) {
  check(bits.size() == size_t(layout.n_blocks()), "BlockGtq: bits of another number of blocks");
  for (const uint8_t b : bits) check(b >= 1 && b <= kMaxBits, "BlockGtq: bits outside 1..8");

  const std::vector<int> order = group_order(bits);
  for (int width = 1; width <= kMaxBits; ++width) {
    std::vector<int> coords;
    for (const int b : order)
      if (bits[b] == width)
        for (const int c : layout.coords(b)) coords.push_back(c);
    if (coords.empty()) continue;
    const int d = int(coords.size());
    groups_.push_back({TqMse(d, width, seed + uint64_t(width), codebook), std::move(coords), 0});
  }
  size_t end = 8 * kNormBytes * groups_.size();
  for (Group& g : groups_) {
    g.bit_offset = end;
    end += g.coords.size() * size_t(g.tq.bits());
  }
  code_bytes_ = (end + 7) / 8;
}

void BlockGtq::encode(const float* x, size_t n, uint8_t* codes) const {
  const size_t tile = std::min(n, kTile);
  std::vector<float> part(tile * dim_);  // (tile, d of the group)
  std::fill_n(codes, n * code_bytes_, uint8_t(0));
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t g = 0; g < groups_.size(); ++g) {
      const std::vector<int>& coords = groups_[g].coords;
      float* out = part.data();
      for (size_t t = first; t < first + count; ++t)
        for (const int c : coords) *out++ = x[t * dim_ + c];
      put_group(groups_[g].tq, part.data(), count, {kNormBytes * g, groups_[g].bit_offset, code_bytes_},
                codes + first * code_bytes_);
    }
  }
}

void BlockGtq::decode(const uint8_t* codes, size_t n, float* x) const {
  const size_t tile = std::min(n, kTile);
  std::vector<float> part(tile * dim_);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t g = 0; g < groups_.size(); ++g) {
      get_group(groups_[g].tq, codes + first * code_bytes_, count,
                {kNormBytes * g, groups_[g].bit_offset, code_bytes_}, part.data());
      const float* in = part.data();
      for (size_t t = first; t < first + count; ++t)
        for (const int c : groups_[g].coords) x[t * dim_ + c] = *in++;
    }
  }
}

std::vector<CodeGroup> BlockGtq::groups() const {
  std::vector<CodeGroup> all;
  for (const Group& g : groups_) all.push_back({&g.tq, g.coords, kNormBytes * all.size(), g.bit_offset});
  return all;
}

std::optional<LinearCode> BlockGtq::linear_code() const {
  return to_linear(dim_, groups());
}

UniformTqMse::UniformTqMse(int head_dim, int bits, uint64_t seed, Codebook codebook)
    : tq_(checked_head_dim(head_dim), bits, seed, codebook), coords_(head_dim) {
  std::iota(coords_.begin(), coords_.end(), 0);
}

size_t UniformTqMse::code_bytes(size_t n) const {
  return n * (kNormBytes + (size_t(dim()) * tq_.bits() + 7) / 8);
}

std::vector<CodeGroup> UniformTqMse::groups() const {
  return {{&tq_, coords_, 0, 8 * kNormBytes}};
}

std::optional<LinearCode> UniformTqMse::linear_code() const {
  return to_linear(dim(), groups());
}

void UniformTqMse::encode(const float* x, size_t n, uint8_t* codes) const {
  std::fill_n(codes, n * code_bytes(1), uint8_t(0));
  put_group(tq_, x, n, {0, 8 * kNormBytes, code_bytes(1)}, codes);
}

void UniformTqMse::decode(const uint8_t* codes, size_t n, float* x) const {
  get_group(tq_, codes, n, {0, 8 * kNormBytes, code_bytes(1)}, x);
}

}  // namespace blockgtq
