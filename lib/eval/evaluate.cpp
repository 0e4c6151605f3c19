#include "eval/evaluate.h"

#include <algorithm>
#include <limits>

#include "base/parallel.h"
#include "eval/logit_error.h"
#include "eval/score.h"

namespace blockgtq {
namespace {

/// Scores one quantizer on one KV head: k (T, H, D) and its group of q (T, Hq, D).
HeadScore score_head(const EvalSpec& spec, const LogitError& metric, const Quantizer& quantizer, int head,
                     const float* q, const float* k, int64_t n_tokens) {
  const AttentionShape& shape = spec.shape;
  const int dim = shape.layout.head_dim, group = shape.group();
  std::vector<float> keys(n_tokens * dim), restored(n_tokens * dim);  // (T, D)
  for (int64_t t = 0; t < n_tokens; ++t)
    std::copy_n(k + (t * shape.n_kv_heads + head) * dim, dim, keys.data() + t * dim);
  std::vector<uint8_t> codes(quantizer.code_bytes(n_tokens));
  quantizer.encode(keys.data(), n_tokens, codes.data());
  quantizer.decode(codes.data(), n_tokens, restored.data());
  const double sum = metric.sum(q + int64_t(head) * group * dim, int64_t(shape.n_heads) * dim, group,
                                keys.data(), dim, restored.data(), n_tokens);
  return {sum / (double(n_tokens) * group * metric.n_offsets()), double(codes.size()) / double(n_tokens)};
}

}  // namespace

LayerResult evaluate_layer(const EvalSpec& spec, int layer, const float* q, const float* k,
                           int64_t n_tokens) {
  const LogitError metric(spec.shape.metric_layout(), spec.inv_freq, spec.window, spec.offsets);
  const std::vector<ScoreJob> jobs = score_jobs(spec);
  std::vector<HeadScore> scores(jobs.size());
  parallel_for(jobs.size(), [&](size_t i) {
    scores[i] =
        score_head(spec, metric, *job_quantizer(spec, jobs[i], layer), jobs[i].kv_head, q, k, n_tokens);
  });
  return assemble(spec, layer, scores);
}

std::vector<SummaryRow> summarize(const std::vector<LayerResult>& layers) {
  if (layers.empty()) return {};
  const size_t n_rows = layers[0].results.size();
  std::vector<SummaryRow> rows(n_rows);
  // tq-mse at the same budget is what a row is held against
  auto baseline = [&](const LayerResult& layer, double bits) -> const MethodResult* {
    for (const MethodResult& r : layer.results)
      if (r.method == "tq-mse" && r.bits == bits) return &r;
    return nullptr;
  };
  for (size_t i = 0; i < n_rows; ++i) {
    SummaryRow& row = rows[i];
    row.method = layers[0].results[i].method;
    row.bits = layers[0].results[i].bits;
    row.layers = int(layers.size());
    double base_mae = 0;
    bool has_base = true;
    for (const LayerResult& layer : layers) {
      const MethodResult& r = layer.results[i];
      row.mae += r.mae;
      row.effective_bits += r.effective_bits;
      row.bytes_per_token += r.bytes_per_token;
      if (const MethodResult* base = baseline(layer, r.bits)) {
        base_mae += base->mae;
        row.wins += r.mae < base->mae;
      } else {
        has_base = false;
      }
    }
    row.mae /= row.layers;
    row.effective_bits /= row.layers;
    base_mae /= row.layers;
    row.ratio_to_tq_mse = has_base ? row.mae / base_mae : std::numeric_limits<double>::quiet_NaN();
  }
  return rows;
}

}  // namespace blockgtq
