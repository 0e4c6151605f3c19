#include "quant/head_energy.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace blockgtq {

HeadEnergy head_energy(const Stats& stats, int layer, int kv_head, KeyForm form, std::span<const int> times) {
  const AttentionShape& shape = stats.shape;
  check(layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads,
        "head_energy: no such layer or KV head");
  check(times.empty() || times.size() == size_t(stats.n_chunks()), "head_energy: chunks of another number");
  const LayerStats& s = stats.layers[layer];
  const int n_blocks = shape.layout.n_blocks(), dim = shape.layout.head_dim;
  HeadEnergy head;
  head.q.resize(n_blocks);
  head.k.resize(n_blocks);
  std::vector<double> k_sum(dim);
  double n_keys = 0;
  for (int64_t c = 0; c < stats.n_chunks(); ++c) {
    const double weight = times.empty() ? 1 : times[c];
    const size_t at = size_t(c) * shape.n_kv_heads + kv_head;
    n_keys += weight * double(stats.chunk_tokens[c]);
    for (int b = 0; b < n_blocks; ++b) {
      head.q[b] += weight * s.q2[at * n_blocks + b];
      head.k[b] += weight * s.k2[at * n_blocks + b];
    }
    for (int j = 0; j < dim; ++j) k_sum[j] += weight * s.k_sum[at * dim + j];
  }
  check(n_keys > 0, "head_energy: statistics without tokens");
  const double n_queries = n_keys * shape.group();
  for (int b = 0; b < n_blocks; ++b) {
    head.q[b] /= n_queries;
    head.k[b] /= n_keys;
    if (form == KeyForm::published) {
      head.score.push_back(0.5 * (head.q[b] + head.k[b]));
      continue;
    }
    for (const int j : shape.layout.coords(b)) head.k[b] -= (k_sum[j] / n_keys) * (k_sum[j] / n_keys);
    head.score.push_back(head.q[b] *
                         std::max(head.k[b], 0.0));  // a constant key's rounding may lie below zero
    head.q[b] = head.k[b] = std::sqrt(head.score[b]);
  }
  return head;
}

}  // namespace blockgtq
