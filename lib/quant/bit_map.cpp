#include "quant/bit_map.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

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

BitMap make_bit_map(const Stats& stats, const std::vector<double>& budgets, const ShareSpec& spec) {
  check_allocator(spec.allocator);
  BitMap map;
  map.shape = stats.shape;
  map.min_bits = spec.allocator.widths.front();
  map.max_bits = spec.allocator.widths.back();
  map.signature = stats.signature;
  map.provenance = stats.provenance;
  map.provenance.emplace_back("calibration_tokens", std::to_string(stats.n_tokens()));
  if (const std::string text = describe(spec); !text.empty()) map.provenance.emplace_back("allocator", text);

  std::vector<HeadEnergy> heads;
  for (int l = 0; l < map.shape.n_layers; ++l)
    for (int h = 0; h < map.shape.n_kv_heads; ++h) {
      heads.push_back(head_energy(stats, l, h, KeyForm::published));
      map.energy.insert(map.energy.end(), heads.back().score.begin(), heads.back().score.end());
    }
  std::vector<double> averages = budgets;
  std::sort(averages.begin(), averages.end());
  averages.erase(std::unique(averages.begin(), averages.end()), averages.end());
  if (averages.empty()) return map;
  std::vector<double> bytes;
  for (const double average : averages) bytes.push_back(average * map.shape.layout.head_dim / 8);
  const auto all = allocate_heads(heads, map.shape.n_kv_heads, spec, bytes);
  for (size_t i = 0; i < averages.size(); ++i) map.budgets.push_back({averages[i], all[i]});
  return map;
}

}  // namespace blockgtq
