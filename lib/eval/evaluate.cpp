#include "eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/logit_error.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

struct HeadScore {
  double mae = 0;
  double code_bytes = 0;
};

/// Scores one quantizer on one KV head: k (T, H, D) and its group of q (T, Hq, D).
HeadScore score_head(const EvalSpec& spec, const LogitError& metric, const Quantizer& quantizer, int head,
                     const float* q, const float* k, int64_t n_tokens) {
  const AttentionShape& shape = spec.shape;
  const int dim = shape.layout.head_dim, group = shape.group();
  std::vector<float> keys(n_tokens * dim), restored(n_tokens * dim);  // (T, D)
  for (int64_t t = 0; t < n_tokens; ++t)
    std::copy_n(k + (t * shape.n_kv_heads + head) * dim, dim, keys.data() + t * dim);
  std::vector<uint8_t> codes(n_tokens * quantizer.code_bytes());
  quantizer.encode(keys.data(), n_tokens, codes.data());
  quantizer.decode(codes.data(), n_tokens, restored.data());
  const double sum = metric.sum(q + int64_t(head) * group * dim, int64_t(shape.n_heads) * dim, group,
                                keys.data(), dim, restored.data(), n_tokens);
  return {sum / (double(n_tokens) * group * metric.n_offsets()), double(quantizer.code_bytes())};
}

/// Geometric interpolation of a whole-bit method between floor(bits) and ceil(bits).
HeadScore interpolate(const HeadScore& low, const HeadScore& high, double weight) {
  return {std::exp((1 - weight) * std::log(low.mae) + weight * std::log(high.mae)),
          (1 - weight) * low.code_bytes + weight * high.code_bytes};
}

}  // namespace

LayerResult evaluate_layer(const EvalSpec& spec, int layer, const float* q, const float* k,
                           int64_t n_tokens) {
  const AttentionShape& shape = spec.shape;
  const size_t n_heads = shape.n_kv_heads, n_methods = spec.methods.size();
  const LogitError metric(shape.metric_layout(), spec.inv_freq, spec.window, spec.offsets);
  std::vector<HeadScore> scores(spec.budgets.size() * n_methods * n_heads);  // (budgets, methods, H)

  parallel_for(scores.size(), [&](size_t i) {
    const Budget& budget = spec.budgets[i / (n_methods * n_heads)];
    const std::string& method = spec.methods[i / n_heads % n_methods];
    const int head = int(i % n_heads), n_blocks = shape.layout.n_blocks();
    auto score = [&](double bits) {
      std::span<const uint8_t> block_bits;
      if (needs_map(method)) {
        const size_t first = (size_t(layer) * n_heads + head) * n_blocks;
        check(budget.bits.size() >= first + n_blocks, "evaluate_layer: a budget without bits");
        block_bits = {budget.bits.data() + first, size_t(n_blocks)};
      }
      auto quantizer = make_quantizer(method, shape.layout, bits, block_bits, spec.seed);
      return score_head(spec, metric, *quantizer, head, q, k, n_tokens);
    };
    const double low = std::floor(budget.average_bits), weight = budget.average_bits - low;
    scores[i] = needs_map(method) || weight == 0 ? score(budget.average_bits)
                                                 : interpolate(score(low), score(low + 1), weight);
  });

  LayerResult result{layer, {}};
  for (size_t b = 0; b < spec.budgets.size(); ++b)
    for (size_t m = 0; m < n_methods; ++m) {
      MethodResult row;
      row.method = spec.methods[m];
      row.bits = spec.budgets[b].average_bits;
      row.interpolated = !needs_map(row.method) && row.bits != std::floor(row.bits);
      for (size_t h = 0; h < n_heads; ++h) {
        const HeadScore& s = scores[(b * n_methods + m) * n_heads + h];
        row.mae_per_kv_head.push_back(s.mae);
        row.mae += s.mae / double(n_heads);
        row.bytes_per_token += s.code_bytes;
      }
      row.effective_bits = 8 * row.bytes_per_token / (double(n_heads) * shape.layout.head_dim);
      result.results.push_back(std::move(row));
    }
  return result;
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
