#include "quant/head_energy.h"

#include <cmath>

#include "base/error.h"
#include "quant/centred.h"

namespace blockgtq {

HeadEnergy head_energy(const Stats& stats, int layer, int kv_head, KeyForm form, std::span<const int> times) {
  const AttentionShape& shape = stats.shape;
  check(layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads,
        "head_energy: no such layer or KV head");
  check(times.empty() || times.size() == size_t(stats.n_chunks()), "head_energy: chunks of another number");
  const LayerStats& s = stats.layers[layer];
  const int n_blocks = shape.layout.n_blocks(), dim = shape.layout.head_dim;
  HeadCalibration mean;  // sums, until they are divided
  mean.q_energy.resize(n_blocks);
  mean.k_energy.resize(n_blocks);
  mean.k_mean.resize(dim);
  double n_keys = 0;
  for (int64_t c = 0; c < stats.n_chunks(); ++c) {
    const double weight = times.empty() ? 1 : times[c];
    const size_t at = size_t(c) * shape.n_kv_heads + kv_head;
    n_keys += weight * double(stats.chunk_tokens[c]);
    for (int b = 0; b < n_blocks; ++b) {
      mean.q_energy[b] += weight * s.q2[at * n_blocks + b];
      mean.k_energy[b] += weight * s.k2[at * n_blocks + b];
    }
    for (int j = 0; j < dim; ++j) mean.k_mean[j] += weight * s.k_sum[at * dim + j];
  }
  check(n_keys > 0, "head_energy: statistics without tokens");
  for (double& q : mean.q_energy) q /= n_keys * shape.group();
  for (double& k : mean.k_energy) k /= n_keys;
  for (double& k : mean.k_mean) k /= n_keys;

  HeadEnergy head;
  if (form == KeyForm::balanced) {
    head.score = product_score(shape.layout, mean);
    for (const double s_i : head.score) head.q.push_back(std::sqrt(s_i));
    head.k = head.q;
    return head;
  }
  head.q = std::move(mean.q_energy);
  head.k = std::move(mean.k_energy);
  for (int b = 0; b < n_blocks; ++b) head.score.push_back(0.5 * (head.q[b] + head.k[b]));
  return head;
}

}  // namespace blockgtq
