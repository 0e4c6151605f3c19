#include "quant/bit_map.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

// Where the blocks of one head begin in an (L, H, B) array.
size_t head_offset(const BitMap& map, int layer, int kv_head) {
  check(layer >= 0 && layer < map.shape.n_layers && kv_head >= 0 && kv_head < map.shape.n_kv_heads,
        "BitMap: no such layer or KV head");
  return (size_t(layer) * map.shape.n_kv_heads + kv_head) * map.n_blocks();
}

}  // namespace

std::span<const double> BitMap::head_energy(int layer, int kv_head) const {
  return std::span(energy).subspan(head_offset(*this, layer, kv_head), n_blocks());
}

std::span<const uint8_t> BitMap::head_bits(const Budget& budget, int layer, int kv_head) const {
  return std::span(budget.bits).subspan(head_offset(*this, layer, kv_head), n_blocks());
}

const Budget* BitMap::find(double average_bits) const {
  // Averages come from decimal text on both sides; 1e-9 is the same guard as the allocator's.
  for (const Budget& b : budgets)
    if (std::abs(b.average_bits - average_bits) < 1e-9) return &b;
  return nullptr;
}

BitMap make_bit_map(const Stats& stats, const std::vector<double>& budgets, int min_bits, int max_bits) {
  BitMap map;
  map.shape = stats.shape;
  map.min_bits = min_bits;
  map.max_bits = max_bits;
  map.signature = stats.signature;
  map.provenance = stats.provenance;
  map.provenance.emplace_back("calibration_tokens", std::to_string(stats.n_tokens()));

  const size_t n_heads = size_t(map.shape.n_layers) * map.shape.n_kv_heads, n_blocks = map.n_blocks();
  map.energy.resize(n_heads * n_blocks);
  std::vector<double> averages = budgets;
  std::sort(averages.begin(), averages.end());
  averages.erase(std::unique(averages.begin(), averages.end()), averages.end());
  for (const double average : averages)
    map.budgets.push_back({average, std::vector<uint8_t>(map.energy.size())});

  parallel_for(n_heads, [&](size_t head) {
    const std::vector<double> energy =
        block_energy(stats, int(head) / map.shape.n_kv_heads, int(head) % map.shape.n_kv_heads);
    std::copy(energy.begin(), energy.end(), map.energy.begin() + head * n_blocks);
    for (Budget& b : map.budgets) {
      const auto bits = allocate_greedy(energy, {b.average_bits, min_bits, max_bits});
      std::copy(bits.begin(), bits.end(), b.bits.begin() + head * n_blocks);
    }
  });
  return map;
}

}  // namespace blockgtq
