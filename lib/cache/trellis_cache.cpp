#include "cache/trellis_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"

namespace blockgtq {
namespace {

/// One side of a block.
struct Side {
  const LinearCode& code;
  int offset;  // in the block
  bool keys;

  const LinearCode::Group& group() const { return code.groups[0]; }
  /// Calls visit(byte, bit, j, k) for every bit k of the code of every coordinate j of a position.
  template <class F>
  void each_bit(int position, F visit) const {
    const int bits = group().bits;
    for (int i = 0; i < code.dim * bits; ++i) {
      const int at = trellis_bit(code.dim, bits, keys, position, i);
      visit(offset + at / 8, at % 8, i / bits, i % bits);
    }
  }
  uint8_t* norm(int position, uint8_t* block) const {
    return block + offset + trellis_code_bytes(code.dim, group().bits) + 2 * norm_place(position);
  }
};

/// Encodes a vector into its position.
void write_side(const Side& side, const PagedVector& x, int position, uint8_t* block) {
  const int n = side.code.dim;
  const std::vector<double>& z = x.z;
  double square = 0, of_c = 0;
  for (int j = 0; j < n; ++j) square += z[j] * z[j];
  std::vector<float> unit(n);
  const double length = std::sqrt(square);
  for (int j = 0; j < n; ++j) unit[j] = length > 0 ? float(z[j] / length) : 0;
  std::vector<uint8_t> codes(n), windows(n);
  const TrellisBytes centroids(side.group());
  const TrellisTable table = centroids.table();
  const TrellisRun run{n, side.group().bits, table.data()};
  trellis_encode(unit.data(), 1, {&run, 1}, codes.data());
  trellis_windows(codes, {&run, 1}, windows.data());
  for (const uint8_t w : windows) of_c += std::pow(centroids.unit * centroids.bytes[w], 2);
  side.each_bit(position, [&](int byte, int bit, int j, int k) {
    block[byte] = uint8_t((block[byte] & ~(1 << bit)) | (codes[j] >> k & 1) << bit);
  });
  const double r = of_c > 0 ? std::min(length / std::sqrt(of_c), 65504.0) : 0;
  const uint16_t norm = to_half(float(x.keeps_mean ? -r : r));
  uint8_t* const to = side.norm(position, block);
  to[0] = uint8_t(norm), to[1] = uint8_t(norm >> 8);
}

std::vector<double> read_side(const Side& side, const std::vector<double>& mean, int position,
                              const uint8_t* block) {
  const LinearCode& code = side.code;
  const int n = code.dim;
  std::vector<uint8_t> codes(n), windows(n);
  side.each_bit(position, [&](int byte, int bit, int j, int k) {
    codes[j] = uint8_t(codes[j] | (block[byte] >> bit & 1) << k);
  });
  const TrellisRun run{n, side.group().bits};
  trellis_windows(codes, {&run, 1}, windows.data());
  const TrellisBytes centroids(side.group());
  const uint8_t* const at = side.norm(position, const_cast<uint8_t*>(block));
  const double norm = from_half(uint16_t(at[0] | at[1] << 8)), r = centroids.unit * std::abs(norm);
  std::vector<double> x = code.mean_flag && std::signbit(norm) ? std::vector<double>(n) : mean;
  for (int d = 0; d < n; ++d)
    for (int j = 0; j < n; ++j)
      x[d] += double(code.backward[size_t(d) * n + j]) * r * centroids.bytes[windows[j]];
  return x;
}

bool side_has_trellis(const std::vector<LinearCode>& codes) {
  return std::any_of(codes.begin(), codes.end(), [](const LinearCode& code) {
    return std::any_of(code.groups.begin(), code.groups.end(),
                       [](const LinearCode::Group& group) { return group.trellis; });
  });
}

/// The sides of a head's block.
struct Sides {
  Side key, value;
  int centres;  // where those of values lie, if there are any
  Sides(const PackedSpec& spec, int head)
      : key{spec.key[head], 0, true},
        value{spec.value[head], trellis_side_bytes(spec.layout.head_dim, key.group().bits), false},
        centres(value.offset + trellis_side_bytes(spec.layout.head_dim, value.group().bits)) {}
};

}  // namespace

bool has_trellis(const PackedSpec& spec) {
  return side_has_trellis(spec.key) || side_has_trellis(spec.value);
}

std::string without_trellis_pages(const PackedSpec& spec) {
  const int dim = spec.layout.head_dim;
  if (side_has_trellis(spec.key) != side_has_trellis(spec.value))
    return fmt::format("{} alone: keys and values are expected",
                       side_has_trellis(spec.key) ? "keys" : "values");
  for (const auto* side : {&spec.key, &spec.value})
    for (const LinearCode& code : *side) {
      if (code.fallback) return "no fallback is expected";
      if (side == &spec.key && !code.centres.empty()) return "keys without centres are expected";
      check(code.mean_flag == is_centred(code), "trellis pages: a code not as paged() makes it");
      if (code.groups.size() != 1 || !code.groups[0].trellis || code.groups[0].d != dim)
        return "one group of all coordinates is expected";
      const int bits = code.groups[0].bits;
      if (!has_trellis_page(64, bits))
        return fmt::format("{} bit{}: 2 to 4 are expected", bits, bits == 1 ? "" : "s");
      if (!has_trellis_page(dim, bits)) return fmt::format("head dimension {}: 64 or 128 is expected", dim);
      if (bits != side->front().groups[0].bits) return "as many bits in all heads are expected";
    }
  return "";
}

void require_trellis_pages(const PackedSpec& spec) {
  if (const std::string why = without_trellis_pages(spec); !why.empty())
    throw Error(Exit::usage, "trellis codes in pages: " + why);
}

TrellisBytes::TrellisBytes(const LinearCode::Group& group) {
  check(group.centroids.size() == bytes.size(), "TrellisBytes: centroids");
  double largest = 0;
  for (const float c : group.centroids) largest = std::max(largest, std::abs(double(c)));
  unit = largest / 127;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = int8_t(std::nearbyint(group.centroids[i] / unit));
}

TrellisTable TrellisBytes::table() const {
  TrellisTable out;
  for (size_t i = 0; i < bytes.size(); ++i) out[i] = float(unit * bytes[i]);
  return out;
}

TrellisCache::TrellisCache(PackedSpec spec) : spec_(std::move(spec)) {
  check(
      spec_.key.size() == spec_.value.size() && !spec_.key.empty() && spec_.n_heads % spec_.n_kv_heads() == 0,
      "TrellisCache: heads");
  require_trellis_pages(spec_);
  rules_ = centre_rules(spec_);
}

void TrellisCache::write(int64_t t, const float* k, const float* v, uint8_t* page) const {
  const int dim = spec_.layout.head_dim, position = int(t % kPagePositions);
  for (int h = 0; h < spec_.n_kv_heads(); ++h) {
    const Sides sides(spec_, h);
    uint8_t* const block = page + int64_t(h) * block_bytes();
    const LinearCode &key = spec_.key[h], &value = spec_.value[h];
    write_side(sides.key, paged_vector(key, k + h * dim, key_mean(spec_, h, t)), position, block);
    const PagedVector of_value = rules_.empty() ? paged_vector(value, v + h * dim, value_mean(spec_, h))
                                                : paged_value(value, rules_[h], v + h * dim);
    write_side(sides.value, of_value, position, block);
    if (!rules_.empty()) block[sides.centres + centre_place(position)] = uint8_t(of_value.centre);
  }
}

void TrellisCache::read(int64_t t, const uint8_t* page, double* k, double* v) const {
  const int dim = spec_.layout.head_dim, position = int(t % kPagePositions);
  for (int h = 0; h < spec_.n_kv_heads(); ++h) {
    const Sides sides(spec_, h);
    const uint8_t* const block = page + int64_t(h) * block_bytes();
    const std::vector<double> key = read_side(sides.key, key_mean(spec_, h, t), position, block),
                              value = read_side(sides.value,
                                                value_offset(spec_, h, block + sides.centres, position),
                                                position, block);
    std::copy(key.begin(), key.end(), k + h * dim);
    std::copy(value.begin(), value.end(), v + h * dim);
  }
}

}  // namespace blockgtq
