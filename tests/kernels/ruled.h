// Attention by a rule, in double precision, for the tests of kernels that have one.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cache/attention.h"

namespace blockgtq::test {

struct Rule {
  int64_t window = 0;
  float softcap = 0;
  bool sinks = false;
  bool plain() const { return window == 0 && softcap == 0 && !sinks; }
};

/// Keys and values of a sequence with the position of each.
struct Held {
  PlainPositions x;
  std::vector<int64_t> at;
};

/// out (Hq, D): one query per head, at position n - 1, which sees none behind it.
inline std::vector<double> ruled(const Held& held, int64_t n, int n_heads, const float* q, double scale,
                                 const Rule& rule, const std::vector<float>& sinks) {
  const int dim = held.x.dim, kv_heads = held.x.n_kv_heads;
  std::vector<double> out(size_t(n_heads * dim), 0.0);
  for (int h = 0; h < n_heads; ++h) {
    const int kv = h / (n_heads / kv_heads);
    std::vector<double> score(held.at.size(), -INFINITY);
    double most = rule.sinks ? double(sinks[size_t(h)]) : -INFINITY;
    for (size_t i = 0; i < held.at.size(); ++i) {
      if (held.at[i] >= n || (rule.window > 0 && held.at[i] < n - rule.window)) continue;
      double s = 0;
      for (int d = 0; d < dim; ++d)
        s += double(q[h * dim + d]) * held.x.k[(i * size_t(kv_heads) + size_t(kv)) * size_t(dim) + size_t(d)];
      s *= scale;
      score[i] = rule.softcap > 0 ? rule.softcap * std::tanh(s / rule.softcap) : s;
      most = std::max(most, score[i]);
    }
    double sum = rule.sinks ? std::exp(double(sinks[size_t(h)]) - most) : 0;
    for (size_t i = 0; i < held.at.size(); ++i) {
      if (score[i] == -INFINITY) continue;
      const double weight = std::exp(score[i] - most);
      sum += weight;
      for (int d = 0; d < dim; ++d)
        out[size_t(h * dim + d)] +=
            weight * held.x.v[(i * size_t(kv_heads) + size_t(kv)) * size_t(dim) + size_t(d)];
    }
    for (int d = 0; d < dim; ++d) out[size_t(h * dim + d)] /= sum;
  }
  return out;
}

}  // namespace blockgtq::test
