#include "quant/calibrate.h"

#include "base/error.h"
#include "quant/centred.h"
#include "quant/k_means.h"
#include "quant/klt.h"

namespace blockgtq {

namespace {

/// Row `kv_head` of an array (n_chunks, H, width), summed over the chunks and divided by count.
std::vector<double> mean(const std::vector<double>& sums, const Stats& stats, int kv_head, size_t width,
                         double count) {
  std::vector<double> total(width);
  for (int64_t c = 0; c < stats.n_chunks(); ++c)
    for (size_t i = 0; i < width; ++i)
      total[i] += sums[(size_t(c) * stats.shape.n_kv_heads + kv_head) * width + i];
  for (double& t : total) t /= count;
  return total;
}

/// Covariance (d, d) of one head from the sums of x x^T of all heads (H, d, d).
std::vector<double> covariance(const DyadicSum& products, int kv_head, const std::vector<double>& mean,
                               double n) {
  const size_t d = mean.size(), size = d * d;
  const std::vector<double> sums = products.total();
  std::vector<double> result(size);
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j)
      result[i * d + j] = sums[kv_head * size + i * d + j] / n - mean[i] * mean[j];
  return result;
}

/// The weight of a key's error in a logit, (D, D). Over many offsets a query reads both coordinates of a
/// block alike, and blocks independently. So the weight is diagonal: half of the query energy of the block.
std::vector<double> query_weight(const BlockLayout& layout, const std::vector<double>& q_energy) {
  const size_t d = layout.head_dim;
  std::vector<double> weight(d * d);
  for (int b = 0; b < layout.n_blocks(); ++b)
    for (const int c : layout.coords(b)) weight[c * d + c] = 0.5 * q_energy[b];
  return weight;
}

/// Centres (m, d) of x - mean, where x are the rows of one head in a sample (n, H, d). Distances are between
/// vectors whose coordinates are multiplied by scale (d).
std::vector<float> centres(const std::vector<float>& sample, int n_heads, int kv_head,
                           const std::vector<double>& mean, const std::vector<double>& scale, int m) {
  const size_t d = mean.size(), stride = size_t(n_heads) * d;
  std::vector<float> x;
  for (size_t at = size_t(kv_head) * d; at < sample.size(); at += stride)
    for (size_t j = 0; j < d; ++j) x.push_back(float((sample[at + j] - mean[j]) * scale[j]));
  std::vector<float> found = k_means(x, int(d), m);
  for (size_t i = 0; i < found.size(); ++i) found[i] = float(found[i] / scale[i % d]);
  return found;
}

/// Copies the number of every block to both of its coordinates.
std::vector<double> spread(const BlockLayout& layout, const std::vector<double>& blocks) {
  std::vector<double> coords(layout.head_dim);
  for (int b = 0; b < layout.n_blocks(); ++b)
    for (const int c : layout.coords(b)) coords[c] = blocks[b];
  return coords;
}

}  // namespace

HeadCalibration calibrate_head(const Stats& stats, int layer, int kv_head, int n_centres) {
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
  if (!s.kk.nodes().empty()) {
    const KltBasis keys =
        klt_basis(query_weight(shape.layout, head.q_energy), covariance(s.kk, kv_head, head.k_mean, n_keys));
    head.k_spectrum = keys.energy;
    head.k_forward.assign(keys.forward.begin(), keys.forward.end());
    head.k_backward.assign(keys.backward.begin(), keys.backward.end());
  }
  if (dv > 0 && dv % 2 == 0 && !s.output.empty()) {
    const size_t size = dv * dv;
    const KltBasis values =
        klt_basis({s.output.begin() + kv_head * size, s.output.begin() + (kv_head + 1) * size},
                  covariance(s.vv, kv_head, head.v_mean, n_keys));
    head.v_spectrum = values.energy;
    head.v_forward.assign(values.forward.begin(), values.forward.end());
    head.v_backward.assign(values.backward.begin(), values.backward.end());
  }
  if (n_centres > 1 && !s.k_sample.empty()) {
    head.k_centres = centres(s.k_sample, shape.n_kv_heads, kv_head, head.k_mean,
                             spread(shape.layout, balance_scales(shape.layout, head)), n_centres);
    if (dv > 0)
      head.v_centres =
          centres(s.v_sample, shape.n_kv_heads, kv_head, head.v_mean, std::vector<double>(dv, 1), n_centres);
  }
  return head;
}

}  // namespace blockgtq
