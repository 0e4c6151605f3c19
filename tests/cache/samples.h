// Quantizers of a packed cache for tests: random groups, rotations and means.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cache/packed_cache.h"
#include "quant/codebook.h"
#include "quant/rotation.h"

namespace blockgtq::test {

/// Groups of these sizes and widths, of whole blocks; one rotation per group, scales of the groups apart by
/// up to 4.
inline LinearCode linear_code(int dim, const std::vector<GroupWidth>& groups, bool one_norm, uint64_t seed,
                              const BlockLayout& layout) {
  std::mt19937_64 random(seed);
  LinearCode code;
  code.dim = dim;
  code.one_norm = one_norm;
  int n = 0;
  for (const GroupWidth& g : groups) n += g.d;
  code.forward.assign(size_t(n) * dim, 0.0f);
  code.backward.assign(size_t(dim) * n, 0.0f);
  std::vector<int> blocks(layout.n_blocks()), coords;
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (const int b : blocks)
    for (const int d : layout.coords(b)) coords.push_back(d);
  int first = 0;
  for (const GroupWidth& g : groups) {
    const double scale = groups.size() > 1 ? std::exp2(double(random() % 5) - 2) : 1;
    const std::vector<double> rotation = haar_rotation(g.d, seed + uint64_t(first));
    for (int i = 0; i < g.d; ++i)
      for (int j = 0; j < g.d; ++j) {
        code.forward[size_t(first + i) * dim + coords[first + j]] =
            float(rotation[size_t(i) * g.d + j] * scale);
        code.backward[size_t(coords[first + j]) * n + first + i] =
            float(rotation[size_t(i) * g.d + j] / scale);
      }
    LinearCode::Group group{g.d, g.bits, {}};
    const double width = std::sqrt(double(one_norm ? n : g.d));
    for (const double c : normal_codebook(g.bits)) group.centroids.push_back(float(c / width));
    code.groups.push_back(group);
    first += g.d;
  }
  return code;
}

inline LinearCode linear_code(int dim, const std::vector<GroupWidth>& groups, bool one_norm, uint64_t seed) {
  return linear_code(dim, groups, one_norm, seed, {dim, dim, Pairing::half});
}

/// The same groups over a rotation of all coordinates, some of which are dropped: F^T F is not diagonal.
inline LinearCode dropping_code(int dim, const std::vector<GroupWidth>& groups, uint64_t seed) {
  LinearCode code = linear_code(dim, groups, true, seed);
  const std::vector<double> rotation = haar_rotation(dim, seed);
  const int n = code.n_coords();
  for (int j = 0; j < n; ++j)
    for (int d = 0; d < dim; ++d) {
      const double scale = j % 3 == 0 ? 2 : 1;
      code.forward[size_t(j) * dim + d] = float(rotation[size_t(j) * dim + d] * scale);
      code.backward[size_t(d) * n + j] = float(rotation[size_t(j) * dim + d] / scale);
    }
  return code;
}

/// Widths of a mixed head: about n_groups groups of all the coordinates.
inline std::vector<GroupWidth> mixed_groups(int dim, int n_groups, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<GroupWidth> groups;
  int left = dim / 2;  // pairs
  for (int g = 0; g < n_groups; ++g) {
    const int others = n_groups - g - 1;
    const int pairs =
        g + 1 == n_groups ? left : 1 + int(random() % uint64_t(std::max(1, 2 * left / (others + 1) - 1)));
    const int taken = std::min(pairs, left - others);
    groups.push_back({2 * taken, n_groups == 1 ? 3 : g + 1});
    left -= taken;
  }
  return groups;
}

struct CacheCase {
  int dim = 128, n_heads = 16, n_kv_heads = 2;
  int groups = 1;  // of keys; 1: uniform
  int bits = 3, value_bits = 3;
  bool one_norm = true, centred = false;
  int dropped = 0;  // value coordinates that are not stored
  bool trellis = false;
  int centres = 0;  // of values, beside their mean or in place of it
};

inline PackedSpec packed_spec(const CacheCase& c, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  PackedSpec spec;
  spec.layout = {c.dim, c.dim % 32 == 0 ? c.dim : c.dim / 2,
                 c.dim == 64 ? Pairing::interleaved : Pairing::half};
  for (int i = 0; i < spec.layout.n_rotary(); ++i)
    spec.inv_freq.push_back(std::pow(1e4, -double(i) / spec.layout.n_rotary()));
  spec.n_heads = c.n_heads;
  for (int h = 0; h < c.n_kv_heads; ++h) {
    const std::vector<GroupWidth> uniform = {{c.dim, c.bits}};
    spec.key.push_back(linear_code(c.dim, c.groups > 1 ? mixed_groups(c.dim, c.groups, random()) : uniform,
                                   c.one_norm, random(), spec.layout));
    const std::vector<GroupWidth> values = {{c.dim - c.dropped, c.value_bits}};
    if (c.dropped > 0)
      spec.value.push_back(dropping_code(
          c.dim, c.groups > 1 ? mixed_groups(c.dim - c.dropped, 3, random()) : values, random()));
    else
      spec.value.push_back(linear_code(c.dim, values, true, random()));
    if (c.trellis)
      for (LinearCode* code : {&spec.key.back(), &spec.value.back()}) *code = with_trellis(*code);
    if (c.centred)
      for (LinearCode* code : {&spec.key.back(), &spec.value.back()})
        for (int d = 0; d < c.dim; ++d) code->mean.push_back((d % 7 == 0 ? 8 : 1) * normal(random));
    for (int i = 0; i < c.centres * c.dim; ++i) spec.value.back().centres.push_back(2 * normal(random));
    for (LinearCode* code : {&spec.key.back(), &spec.value.back()}) *code = paged(*code);
  }
  return spec;
}

/// The same in trellis codes, one group each.
inline CacheCase trellis_case(int dim, int n_heads, int n_kv_heads, int bits, int value_bits,
                              bool centred = false, int centres = 0) {
  return {dim, n_heads, n_kv_heads, 1, bits, value_bits, true, centred, 0, true, centres};
}

/// Keys and values: noise, and two of three times the mean beside it where there is one, of keys as RoPE
/// turns it; the others are small.
struct Tokens {
  std::vector<float> k, v;  // (T, H, D)
};
inline Tokens random_tokens(const PackedSpec& spec, int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const int dim = spec.layout.head_dim, heads = spec.n_kv_heads();
  Tokens t{std::vector<float>(n * heads * dim), std::vector<float>(n * heads * dim)};
  for (float& x : t.k) x = normal(random);
  for (float& x : t.v) x = normal(random);
  const auto add_mean = [&](float* x, const std::vector<double>& mean) {
    const bool small = random() % 3 == 0;
    for (int d = 0; d < dim; ++d) x[d] = small ? 0.3f * x[d] : float(x[d] + mean[d]);
  };
  for (int64_t i = 0; i < n; ++i)
    for (int h = 0; h < heads; ++h) {
      if (!spec.key[h].mean.empty()) add_mean(&t.k[(i * heads + h) * dim], key_mean(spec, h, i));
      const LinearCode& value = spec.value[h];
      if (!is_centred(value)) continue;
      std::vector<double> mean = value_mean(spec, h);
      if (const int n = value.n_centres(); n > 0)
        std::copy_n(&value.centres[random() % uint64_t(n) * uint64_t(dim)], dim, mean.begin());
      add_mean(&t.v[(i * heads + h) * dim], mean);
    }
  return t;
}

/// |forward (x - share mean)|^2: of the vector as it is (0), or less its mean (1).
inline double coded_square(const LinearCode& code, const float* x, const std::vector<double>& mean,
                           double share) {
  double square = 0;
  for (int j = 0; j < code.n_coords(); ++j) {
    double z = 0;
    for (int d = 0; d < code.dim; ++d)
      z += double(code.forward[size_t(j) * code.dim + d]) * (x[d] - share * mean[d]);
    square += z * z;
  }
  return square;
}

/// Vectors of which rounding decides whether they keep their mean: float32 is some 1e-6 of a square off.
inline int near_ties(const PackedSpec& spec, const Tokens& tokens) {
  const int dim = spec.layout.head_dim, heads = spec.n_kv_heads();
  int ties = 0;
  const auto count = [&](const LinearCode& code, const float* x, const std::vector<double>& mean) {
    if (code.mean.empty()) return;
    const double whole = coded_square(code, x, mean, 0), less = coded_square(code, x, mean, 1);
    ties += std::abs(whole - less) <= 1e-4 * (whole + less);
  };
  for (size_t i = 0; i < tokens.k.size() / size_t(heads * dim); ++i)
    for (int h = 0; h < heads; ++h) {
      const size_t at = (i * size_t(heads) + size_t(h)) * size_t(dim);
      count(spec.key[h], &tokens.k[at], key_mean(spec, h, int64_t(i)));
      count(spec.value[h], &tokens.v[at], value_mean(spec, h));
    }
  return ties;
}

}  // namespace blockgtq::test
