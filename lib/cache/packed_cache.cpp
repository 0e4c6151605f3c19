#include "cache/packed_cache.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"

namespace blockgtq {
namespace {

std::vector<GroupWidth> widths(const LinearCode& code) {
  std::vector<GroupWidth> out;
  for (const LinearCode::Group& g : code.groups) out.push_back({g.d, g.bits});
  return out;
}

void put_half(uint8_t* at, double value) {
  const uint16_t bits = to_half(float(std::clamp(value, -65504.0, 65504.0)));
  at[0] = uint8_t(bits);
  at[1] = uint8_t(bits >> 8);
}
double get_half(const uint8_t* at) {
  return from_half(uint16_t(at[0] | at[1] << 8));
}

/// One side of a block: where its codes and norms lie, and where a position and a coordinate are in it.
struct Side {
  const LinearCode& code;
  const CodeStream& stream;
  int offset, norm_offset;  // in the block
  bool keys;

  /// Calls visit(byte, bit) for every bit k of the code of coordinate j of a unit.
  template <class F>
  void bits_of(const CodeUnit& unit, int position, int j, F visit) const {
    const CodePlace place = keys ? key_place(position, j, unit.half()) : value_place(position, j);
    const int word_bytes = keys && unit.half() ? 2 : 4;
    const int lane = offset + unit.offset + place.lane * unit.bits * word_bytes;
    for (int k = 0; k < unit.bits; ++k) {
      const CodeBit bit = code_bit(unit.bits, place.i, place.p, k);
      visit(lane + bit.word * word_bytes + bit.bit / 8, bit.bit % 8, k);
    }
  }
};

/// The index of a group's norm.
int norm_of(const LinearCode& code, int group) {
  return code.one_norm ? 0 : group;
}

/// Encodes a vector into its position.
void write_side(const Side& side, const PagedVector& x, int position, uint8_t* block) {
  const LinearCode& code = side.code;
  const std::vector<double>& z = x.z;
  const int n_norms = code.one_norm ? 1 : int(code.groups.size());
  std::vector<double> square(n_norms), of_c(n_norms);
  for (int g = 0, j = 0; g < int(code.groups.size()); ++g)
    for (int i = 0; i < code.groups[g].d; ++i, ++j) square[norm_of(code, g)] += z[j] * z[j];
  for (const CodeUnit& unit : side.stream.units)
    for (int j = 0; j < unit.coords; ++j) {
      const int norm = norm_of(code, unit.group);
      const double length = std::sqrt(square[norm]), y = length > 0 ? z[unit.first + j] / length : 0;
      const std::vector<float>& exact = code.groups[unit.group].centroids;
      const auto nearest = [&](double a, double b) { return std::abs(a - y) < std::abs(b - y); };
      const size_t index = std::min_element(exact.begin(), exact.end(), nearest) - exact.begin();
      const uint32_t stored = stored_code(unit.bits, uint32_t(index));
      side.bits_of(unit, position, j, [&](int byte, int bit, int k) {
        block[byte] = uint8_t((block[byte] & ~(1 << bit)) | (stored >> k & 1) << bit);
      });
      const double c = cache_centroids(code.groups[unit.group])[index];
      of_c[norm] += c * c;
    }
  for (int g = 0; g < n_norms; ++g) {
    const double r = of_c[g] > 0 ? std::sqrt(square[g] / of_c[g]) : 0;
    put_half(block + side.norm_offset + 2 * (kPagePositions * g + norm_place(position)),
             g == 0 && x.keeps_mean ? -r : r);
  }
}

std::vector<double> read_side(const Side& side, const std::vector<double>& mean, int position,
                              const uint8_t* block) {
  const LinearCode& code = side.code;
  const int n = code.n_coords();
  const auto norm = [&](int i) {
    return get_half(block + side.norm_offset + 2 * (kPagePositions * i + norm_place(position)));
  };
  const bool keeps_mean = code.mean_flag && std::signbit(norm(0));
  std::vector<double> z(n), x = keeps_mean ? std::vector<double>(code.dim) : mean;
  for (const CodeUnit& unit : side.stream.units)
    for (int j = 0; j < unit.coords; ++j) {
      uint32_t stored = 0;
      side.bits_of(unit, position, j,
                   [&](int byte, int bit, int k) { stored |= uint32_t(block[byte] >> bit & 1) << k; });
      const double r = std::abs(norm(norm_of(code, unit.group)));
      z[unit.first + j] = r * cache_centroids(code.groups[unit.group])[centroid_index(unit.bits, stored)];
    }
  for (int d = 0; d < code.dim; ++d)
    for (int j = 0; j < n; ++j) x[d] += double(code.backward[size_t(d) * n + j]) * z[j];
  return x;
}

}  // namespace

int byte_centroid(float c, float largest) {
  const int byte = int(std::nearbyint(127 * double(c) / largest));
  return byte != 0 ? byte : c > 0 ? 1 : -1;  // a centroid keeps its sign
}

std::vector<double> cache_centroids(const LinearCode::Group& group) {
  std::vector<double> out;
  const float largest = group.centroids.back();
  for (const float c : group.centroids)
    out.push_back(group.bits <= kByteBits ? double(largest) * byte_centroid(c, largest) / 127
                                          : double(largest) * from_half(to_half(c / largest)));
  return out;
}

std::vector<double> key_mean(const PackedSpec& spec, int head, int64_t t) {
  const BlockLayout& layout = spec.layout;
  std::vector<double> out(layout.head_dim);
  const std::vector<float>& mean = spec.key[head].mean;
  if (mean.empty()) return out;
  for (int b = 0; b < layout.n_blocks(); ++b) {
    const auto [i, j] = layout.coords(b);
    const double angle = b < layout.n_rotary() ? double(t) * spec.inv_freq[b] : 0;
    out[i] = mean[i] * std::cos(angle) - mean[j] * std::sin(angle);
    out[j] = mean[j] * std::cos(angle) + mean[i] * std::sin(angle);
  }
  return out;
}

std::vector<double> value_mean(const PackedSpec& spec, int head) {
  std::vector<double> out(spec.value[head].mean.begin(), spec.value[head].mean.end());
  out.resize(spec.layout.head_dim);
  return out;
}

LinearCode paged(LinearCode code) {
  code.fallback = nullptr;
  code.mean_flag = is_centred(code);
  if (code.centres.empty()) return code;
  for (size_t i = 0; i < code.centres.size(); ++i) {
    const float mean = code.mean.empty() ? 0 : code.mean[i % size_t(code.dim)];
    code.centres[i] = from_half(to_half(std::clamp(code.centres[i] + mean, -65504.0f, 65504.0f)));
  }
  code.mean.clear();
  return code;
}

namespace {

/// forward x. x (D).
template <class T>
std::vector<double> product(const LinearCode& code, const T* x) {
  std::vector<double> z(code.n_coords());
  for (size_t j = 0; j < z.size(); ++j)
    for (int d = 0; d < code.dim; ++d) z[j] += double(code.forward[j * code.dim + d]) * x[d];
  return z;
}

}  // namespace

PagedVector paged_vector(const LinearCode& code, const float* x, const std::vector<double>& mean) {
  std::vector<double> whole = product(code, x);  // z with the mean left in
  if (!code.mean_flag) return {std::move(whole)};
  std::vector<double> less = product(code, mean.data());
  double of_whole = 0, of_less = 0;
  for (size_t j = 0; j < less.size(); ++j) {
    less[j] = whole[j] - less[j];
    of_whole += whole[j] * whole[j];
    of_less += less[j] * less[j];
  }
  if (of_whole < of_less) return {std::move(whole), true};
  return {std::move(less)};
}

PagedVector paged_value(const LinearCode& code, const CentreRule& rule, const float* x) {
  const CentreRule::Choice choice = rule.choose(x);
  std::vector<double> less(x, x + code.dim);
  for (int d = 0; d < code.dim && !choice.keeps; ++d)
    less[size_t(d)] -= code.centres[size_t(choice.centre) * size_t(code.dim) + size_t(d)];
  return {product(code, less.data()), choice.keeps, choice.centre};
}

std::vector<CentreRule> centre_rules(const PackedSpec& spec) {
  std::vector<CentreRule> rules;
  for (const LinearCode& code : spec.value) {
    check(code.n_centres() == spec.n_centres(), "centre_rules: heads with other numbers of centres");
    if (spec.n_centres() > 0) rules.emplace_back(code);
  }
  return rules;
}

std::vector<double> value_offset(const PackedSpec& spec, int head, const uint8_t* centres, int position) {
  if (spec.n_centres() == 0) return value_mean(spec, head);
  const int dim = spec.layout.head_dim, centre = centres[centre_place(position)];
  if (centre >= spec.n_centres()) return std::vector<double>(size_t(dim));
  const float* const row = &spec.value[head].centres[size_t(centre) * size_t(dim)];
  return {row, row + dim};
}

PageShape page_shape(const PackedSpec& spec) {
  PageShape shape;
  for (int h = 0; h < spec.n_kv_heads(); ++h) {
    shape.blocks.push_back(block_shape(widths(spec.key[h]), spec.key[h].one_norm, widths(spec.value[h]), true,
                                       spec.n_centres() > 0));
    shape.offsets.push_back(shape.bytes);
    shape.bytes += shape.blocks.back().bytes;
  }
  return shape;
}

PackedCache::PackedCache(PackedSpec spec) : spec_(std::move(spec)) {
  check(
      spec_.key.size() == spec_.value.size() && !spec_.key.empty() && spec_.n_heads % spec_.n_kv_heads() == 0,
      "PackedCache: heads");
  for (const auto* side : {&spec_.key, &spec_.value})
    for (const LinearCode& code : *side)
      check(!code.fallback && code.mean_flag == is_centred(code) &&
                std::none_of(code.groups.begin(), code.groups.end(),
                             [](const LinearCode::Group& g) { return g.trellis; }),
            "PackedCache: a code with a fallback or a trellis, or not as paged() makes it");
  for (const LinearCode& key : spec_.key) check(key.centres.empty(), "PackedCache: keys with centres");
  for (const LinearCode& value : spec_.value)
    check(value.one_norm || value.groups.size() == 1, "PackedCache: values with several norms");
  rules_ = centre_rules(spec_);
  shape_ = page_shape(spec_);
}

void PackedCache::write(int64_t t, const float* k, const float* v, uint8_t* page) const {
  const int dim = spec_.layout.head_dim, position = int(t % kPagePositions);
  for (int h = 0; h < spec_.n_kv_heads(); ++h) {
    const BlockShape& shape = shape_.blocks[h];
    const LinearCode &key = spec_.key[h], &value = spec_.value[h];
    uint8_t* block = page + shape_.offsets[h];
    write_side({key, shape.key, 0, shape.key_norm_offset, true},
               paged_vector(key, k + h * dim, key_mean(spec_, h, t)), position, block);
    const PagedVector of_value = rules_.empty() ? paged_vector(value, v + h * dim, value_mean(spec_, h))
                                                : paged_value(value, rules_[h], v + h * dim);
    write_side({value, shape.value, shape.value_offset, shape.value_norm_offset, false}, of_value, position,
               block);
    if (shape.value_centre_offset > 0)
      block[shape.value_centre_offset + centre_place(position)] = uint8_t(of_value.centre);
  }
}

void PackedCache::read(int64_t t, const uint8_t* page, double* k, double* v) const {
  const int dim = spec_.layout.head_dim, position = int(t % kPagePositions);
  for (int h = 0; h < spec_.n_kv_heads(); ++h) {
    const BlockShape& shape = shape_.blocks[h];
    const uint8_t* block = page + shape_.offsets[h];
    const std::vector<double> key = read_side({spec_.key[h], shape.key, 0, shape.key_norm_offset, true},
                                              key_mean(spec_, h, t), position, block);
    const std::vector<double> value =
        read_side({spec_.value[h], shape.value, shape.value_offset, shape.value_norm_offset, false},
                  value_offset(spec_, h, block + shape.value_centre_offset, position), position, block);
    std::copy(key.begin(), key.end(), k + h * dim);
    std::copy(value.begin(), value.end(), v + h * dim);
  }
}

}  // namespace blockgtq
