#include "quant/calibrate.h"

#include "base/error.h"
#include "quant/klt.h"

namespace blockgtq {

namespace {

/// Sum over the chunks of row `kv_head` of an array (n_chunks, H, width), over `count`.
std::vector<double> mean(const std::vector<double>& sums, const Stats& stats, int kv_head, size_t width,
                         double count) {
  std::vector<double> total(width);
  for (int64_t c = 0; c < stats.n_chunks(); ++c)
    for (size_t i = 0; i < width; ++i)
      total[i] += sums[(size_t(c) * stats.shape.n_kv_heads + kv_head) * width + i];
  for (double& t : total) t /= count;
  return total;
}

}  // namespace

HeadCalibration calibrate_head(const Stats& stats, int layer, int kv_head) {
  const AttentionShape& shape = stats.shape;
  check(layer >= 0 && layer < shape.n_layers && kv_head >= 0 && kv_head < shape.n_kv_heads,
        "calibrate_head: no such layer or KV head");
  const auto n_keys = double(stats.n_tokens());
  check(n_keys > 0, "calibrate_head: statistics without tokens");
  const LayerStats& s = stats.layers.at(layer);
  const size_t n_blocks = shape.layout.n_blocks(), dv = shape.v_dim;
  HeadCalibration head;
  head.q_energy = mean(s.q2, stats, kv_head, n_blocks, n_keys * shape.group());
  head.k_energy = mean(s.k2, stats, kv_head, n_blocks, n_keys);
  head.k_mean = mean(s.k_sum, stats, kv_head, shape.layout.head_dim, n_keys);
  head.v_mean = mean(s.v_sum, stats, kv_head, dv, n_keys);
  if (!has_output(stats)) return head;

  const size_t size = dv * dv;
  const std::vector<double> vv = s.vv.total();
  std::vector<double> covariance(size);
  for (size_t i = 0; i < dv; ++i)
    for (size_t j = 0; j < dv; ++j)
      covariance[i * dv + j] = vv[kv_head * size + i * dv + j] / n_keys - head.v_mean[i] * head.v_mean[j];
  KltBasis basis =
      klt_basis({s.output.begin() + kv_head * size, s.output.begin() + (kv_head + 1) * size}, covariance);
  head.v_energy = std::move(basis.energy);
  head.v_forward.assign(basis.forward.begin(), basis.forward.end());
  head.v_backward.assign(basis.backward.begin(), basis.backward.end());
  return head;
}

}  // namespace blockgtq
