#include "quant/map_difference.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "quant/centred.h"

namespace blockgtq {
namespace {

void check_same_shape(const AttentionShape& x, const AttentionShape& y, const std::string& a,
                      const std::string& b) {
  const auto same = [&](const char* what, auto p, auto q) {
    if (p != q) fail_input("{} and {} are maps of other shapes: {}: {} and {}", a, b, what, p, q);
  };
  same("layers", x.n_layers, y.n_layers);
  same("KV heads", x.n_kv_heads, y.n_kv_heads);
  same("head dimension", x.layout.head_dim, y.layout.head_dim);
  same("rotary dimension", x.layout.rotary_dim, y.layout.rotary_dim);
  same("pairing", std::string(name(x.layout.pairing)), std::string(name(y.layout.pairing)));
}

/// The energies that an array's bits are for: of blocks, or of pairs of basis coordinates.
std::vector<double> energies(const BitMap& map, const std::string& array, size_t head, size_t n) {
  if (array == "bits") return {map.energy.begin() + head * n, map.energy.begin() + (head + 1) * n};
  const HeadCalibration& c = map.calibration.at(head);
  if (array == "product_bits") return product_score(map.shape.layout, c);
  const std::vector<double>& spectrum = array == "key_bits" ? c.k_spectrum : c.v_spectrum;
  std::vector<double> energy(n);
  for (size_t i = 0; i < n; ++i) energy[i] = spectrum.at(2 * i) + spectrum.at(2 * i + 1);
  return energy;
}

void add_array(std::vector<BitDifference>& all, const BitMap& map, const char* array, double average_bits,
               const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.empty() || a.size() != b.size()) return;
  BitDifference difference{array, average_bits, {}};
  difference.heads.resize(size_t(map.shape.n_layers) * map.shape.n_kv_heads);
  const size_t n = a.size() / difference.heads.size();
  for (size_t h = 0; h < difference.heads.size(); ++h) {
    BitDifference::Count& count = difference.heads[h];
    const std::vector<double> energy = energies(map, array, h, n);
    for (size_t i = 0; i < n; ++i) {
      const int in_a = a[h * n + i], in_b = b[h * n + i];
      count.add({1, in_b<in_a, in_b> in_a, in_a, in_b, std::ldexp(energy[i], -2 * in_a),
                 std::ldexp(energy[i], -2 * in_b)});
    }
  }
  all.push_back(std::move(difference));
}

}  // namespace

void BitDifference::Count::add(const Count& other) {
  blocks += other.blocks;
  fewer += other.fewer;
  more += other.more;
  bits_a += other.bits_a;
  bits_b += other.bits_b;
  error_a += other.error_a;
  error_b += other.error_b;
}

BitDifference::Count BitDifference::total() const {
  Count sum;
  for (const Count& head : heads) sum.add(head);
  return sum;
}

BitDifference::Count BitDifference::layer(int layer, int n_kv_heads) const {
  Count sum;
  for (int h = 0; h < n_kv_heads; ++h) sum.add(heads.at(size_t(layer) * n_kv_heads + h));
  return sum;
}

std::vector<BitDifference> map_differences(const BitMap& map_a, const BitMap& map_b, const std::string& a,
                                           const std::string& b) {
  check_same_shape(map_a.shape, map_b.shape, a, b);
  std::vector<BitDifference> all;
  for (const Budget& of_a : map_a.budgets) {
    const Budget* of_b = map_b.find(of_a.average_bits);
    if (!of_b) continue;
    const double bits = of_a.average_bits;
    add_array(all, map_a, "bits", bits, of_a.bits, of_b->bits);
    add_array(all, map_a, "product_bits", bits, of_a.product_bits, of_b->product_bits);
    add_array(all, map_a, "key_bits", bits, of_a.key_bits, of_b->key_bits);
    add_array(all, map_a, "value_bits", bits, of_a.value_bits, of_b->value_bits);
  }
  if (all.empty()) fail_input("{} and {} have no budget in common", a, b);
  return all;
}

}  // namespace blockgtq
