#include "quant/bit_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "quant/calibrate.h"
#include "quant/centred.h"
#include "quant/klt.h"

namespace blockgtq {

namespace {

// Averages come from decimal text on both sides. The guard of 1e-9 is that of the allocator.
bool same_average(double a, double b) {
  return std::abs(a - b) < 1e-9;
}

// The index of one head in an (L, H, ...) array.
size_t head_index(const AttentionShape& shape, int layer, int kv_head) {
  check(layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads,
        "BitMap: no such layer or KV head");
  return size_t(layer) * shape.n_kv_heads + kv_head;
}

// Row `index` of an array with rows of `width` elements; empty for an empty array.
template <class T>
std::span<const T> row(const std::vector<T>& values, size_t index, size_t width) {
  if (values.empty()) return {};
  return std::span(values).subspan(index * width, width);
}

// The energies of pairs of neighbouring coordinates, which share their bits.
std::vector<double> pair_energy(const std::vector<double>& energy) {
  std::vector<double> pairs(energy.size() / 2);
  for (size_t p = 0; p < pairs.size(); ++p) pairs[p] = energy[2 * p] + energy[2 * p + 1];
  return pairs;
}

// The bits of the pairs of a basis, all heads: (L, H, dim / 2). Empty where the heads have no basis.
std::vector<uint8_t> basis_bits(const std::vector<HeadCalibration>& heads,
                                std::vector<double> HeadCalibration::*spectrum, double average_bits,
                                const Cost& cost) {
  if (heads.empty() || (heads[0].*spectrum).empty()) return {};
  const size_t n_pairs = (heads[0].*spectrum).size() / 2;
  const int64_t pair_bits =
      std::max<int64_t>(cost.block_bits(average_bits * double(2 * n_pairs) / 8) - cost.per_key(), 0);
  std::vector<uint8_t> bits(heads.size() * n_pairs);
  parallel_for(heads.size(), [&](size_t head) {
    const std::vector<double> energy = pair_energy(heads[head].*spectrum);
    const auto row = cost.per_group() > 0 ? allocate_by_groups(energy, pair_bits, cost.per_group())
                                          : allocate_by_gain(energy, double(pair_bits) / double(n_pairs));
    std::copy(row.begin(), row.end(), bits.begin() + head * n_pairs);
  });
  return bits;
}

// What a map holds must be finite, or it could not be read back. A product of energies may overflow float64,
// and a basis of keys may be so small that its inverse overflows float32.
void require_finite(const BitMap& map) {
  for (size_t h = 0; h < map.calibration.size(); ++h) {
    const auto require = [&](const char* what, const auto& values) {
      const auto bad = std::find_if(values.begin(), values.end(), [](auto x) { return !std::isfinite(x); });
      if (bad == values.end()) return;
      throw Error(Exit::nonfinite,
                  fmt::format("layer {}: KV head {}: {}: {} found, finite numbers allowed",
                              h / map.shape.n_kv_heads, h % map.shape.n_kv_heads, what, *bad),
                  "the model's keys, queries or output weights are too small or too large to calibrate");
    };
    const HeadCalibration& head = map.calibration[h];
    const size_t n = size_t(map.n_blocks());
    require("energy", std::span(map.energy).subspan(h * n, n));
    require("q_energy", head.q_energy);
    require("k_energy", head.k_energy);
    require("product score", product_score(map.shape.layout, head));
    require("k_mean", head.k_mean);
    require("v_mean", head.v_mean);
    require("k_spectrum", head.k_spectrum);
    require("k_forward", head.k_forward);
    require("k_backward", head.k_backward);
    require("v_spectrum", head.v_spectrum);
    require("v_forward", head.v_forward);
    require("v_backward", head.v_backward);
    require("k_centres", head.k_centres);
    require("v_centres", head.v_centres);
  }
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
  head.min_bits = budget.min_bits;
  head.max_bits = budget.max_bits;
  head.published = budget.published;
  head.bits = row(budget.bits, index, shape.layout.n_blocks());
  head.product_bits = row(budget.product_bits, index, shape.layout.n_blocks());
  head.key_bits = row(budget.key_bits, index, shape.layout.head_dim / 2);
  head.value_bits = row(budget.value_bits, index, shape.v_dim / 2);
  if (!calibration.empty()) head.calibration = &calibration[index];
  return head;
}

const Budget* BitMap::find(double average_bits) const {
  for (const Budget& b : budgets)
    if (same_average(b.average_bits, average_bits)) return &b;
  return nullptr;
}

const MethodChoice* BitMap::choice(Side side, double average_bits) const {
  for (const MethodChoice& c : choices)
    if (c.side == side && same_average(c.bits, average_bits)) return &c;
  return nullptr;
}

BitMap make_bit_map(const Stats& stats, const std::vector<double>& budgets, const ShareSpec& spec,
                    int n_centres, std::vector<HeadCalibration> calibration) {
  check_allocator(spec.allocator);
  BitMap map;
  map.shape = stats.shape;
  map.min_bits = spec.allocator.widths.front();
  map.max_bits = spec.allocator.widths.back();
  map.signature = stats.signature;
  map.provenance = stats.provenance;
  map.provenance.emplace_back("calibration_tokens", std::to_string(stats.n_tokens()));
  const std::string allocator = describe(spec);
  if (!allocator.empty()) map.provenance.emplace_back(kAllocatorKey, allocator);

  const AttentionShape& shape = map.shape;
  const size_t n_heads = size_t(shape.n_layers) * shape.n_kv_heads;
  std::vector<HeadEnergy> published(n_heads), balanced(n_heads);
  const bool calibrated = !calibration.empty();
  check(!calibrated || calibration.size() == n_heads, "make_bit_map: calibration of other heads");
  map.calibration = std::move(calibration);
  map.calibration.resize(n_heads);
  parallel_for(n_heads, [&](size_t head) {
    const int layer = int(head) / shape.n_kv_heads, kv_head = int(head) % shape.n_kv_heads;
    published[head] = head_energy(stats, layer, kv_head, KeyForm::published);
    balanced[head] = head_energy(stats, layer, kv_head, KeyForm::balanced);
    if (!calibrated) map.calibration[head] = calibrate_head(stats, layer, kv_head, n_centres);
  });
  for (const HeadEnergy& head : published)
    map.energy.insert(map.energy.end(), head.score.begin(), head.score.end());
  require_finite(map);

  std::vector<double> averages = budgets;
  std::sort(averages.begin(), averages.end());
  averages.erase(std::unique(averages.begin(), averages.end()), averages.end());
  if (averages.empty()) return map;
  std::vector<double> bytes;
  for (const double average : averages) bytes.push_back(average * shape.layout.head_dim / 8);
  const auto bits =
      allocate_heads(published, shape.n_kv_heads, spec_of(spec, KeyForm::published, stats), bytes);
  const auto product_bits =
      allocate_heads(balanced, shape.n_kv_heads, spec_of(spec, KeyForm::balanced, stats), bytes);
  const CostKind kind = spec.allocator.cost.kind;
  for (size_t i = 0; i < averages.size(); ++i)
    map.budgets.push_back(
        {averages[i], bits[i], product_bits[i],
         basis_bits(map.calibration, &HeadCalibration::k_spectrum, averages[i], {kind, NormKind::group}),
         basis_bits(map.calibration, &HeadCalibration::v_spectrum, averages[i], {kind, NormKind::key}),
         map.min_bits, map.max_bits, allocator.empty()});
  return map;
}

}  // namespace blockgtq
