#include "quant/bit_map.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "quant/calibrate.h"
#include "quant/centred.h"
#include "quant/klt.h"

namespace blockgtq {

namespace {

// The place of one head in an (L, H, ...) array.
size_t head_index(const AttentionShape& shape, int layer, int kv_head) {
  check(layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads,
        "BitMap: no such layer or KV head");
  return size_t(layer) * shape.n_kv_heads + kv_head;
}

// Row `index` of an array whose rows have `width` elements; empty for an empty array.
template <class T>
std::span<const T> row(const std::vector<T>& values, size_t index, size_t width) {
  if (values.empty()) return {};
  return std::span(values).subspan(index * width, width);
}

// Energy of the pairs of neighbouring coordinates that share their bits.
std::vector<double> pair_energy(const std::vector<double>& energy) {
  std::vector<double> pairs(energy.size() / 2);
  for (size_t p = 0; p < pairs.size(); ++p) pairs[p] = energy[2 * p] + energy[2 * p + 1];
  return pairs;
}

}  // namespace

std::span<const double> BitMap::head_energy(int layer, int kv_head) const {
  return row(energy, head_index(shape, layer, kv_head), n_blocks());
}

std::span<const uint8_t> BitMap::head_bits(const Budget& budget, int layer, int kv_head) const {
  return row(budget.bits, head_index(shape, layer, kv_head), n_blocks());
}

HeadMap head_map(const AttentionShape& shape, const Budget& budget,
                 const std::vector<HeadCalibration>& calibration, uint64_t seed, int layer, int kv_head) {
  const size_t index = head_index(shape, layer, kv_head);
  HeadMap head;
  head.layout = shape.layout;
  head.v_dim = shape.v_dim;
  head.seed = seed;
  head.average_bits = budget.average_bits;
  head.bits = row(budget.bits, index, shape.layout.n_blocks());
  head.product_bits = row(budget.product_bits, index, shape.layout.n_blocks());
  head.value_bits = row(budget.value_bits, index, shape.v_dim / 2);
  if (!calibration.empty()) head.calibration = &calibration[index];
  return head;
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
  map.calibration.resize(n_heads);
  std::vector<double> averages = budgets;
  std::sort(averages.begin(), averages.end());
  averages.erase(std::unique(averages.begin(), averages.end()), averages.end());
  const size_t n_bits = map.energy.size(), n_pairs = has_output(stats) ? size_t(map.shape.v_dim / 2) : 0;
  for (const double average : averages)
    map.budgets.push_back({average, std::vector<uint8_t>(n_bits), std::vector<uint8_t>(n_bits),
                           std::vector<uint8_t>(n_heads * n_pairs)});

  parallel_for(n_heads, [&](size_t head) {
    const int layer = int(head) / map.shape.n_kv_heads, kv_head = int(head) % map.shape.n_kv_heads;
    const std::vector<double> energy = block_energy(stats, layer, kv_head);
    std::copy(energy.begin(), energy.end(), map.energy.begin() + head * n_blocks);
    const HeadCalibration& calibration = map.calibration[head] = calibrate_head(stats, layer, kv_head);
    const std::vector<double> product = product_score(map.shape.layout, calibration);
    for (Budget& b : map.budgets) {
      const AllocateOptions options{b.average_bits, min_bits, max_bits};
      const auto put = [](const std::vector<uint8_t>& bits, std::vector<uint8_t>& all, size_t first) {
        std::copy(bits.begin(), bits.end(), all.begin() + first);
      };
      put(allocate_greedy(energy, options), b.bits, head * n_blocks);
      put(allocate_greedy(product, options), b.product_bits, head * n_blocks);
      if (n_pairs > 0)
        put(allocate_by_gain(pair_energy(calibration.v_energy), b.average_bits), b.value_bits,
            head * n_pairs);
    }
  });
  return map;
}

}  // namespace blockgtq
