#include "eval/evaluate.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/attention_error.h"
#include "eval/logit_error.h"
#include "eval/place.h"
#include "eval/quantized_cache.h"
#include "eval/score.h"

namespace blockgtq {
namespace {

/// Scores one layer: every quantizer on every KV head.
class LayerScorer {
 public:
  LayerScorer(const EvalSpec& spec, int layer, const float* q, const float* k, const float* v,
              int64_t n_tokens)
      : spec_(spec),
        layer_(layer),
        q_(q),
        k_(k),
        v_(v),
        n_tokens_(n_tokens),
        chunk_(spec.chunk > 0 ? std::min(spec.chunk, n_tokens) : n_tokens),
        published_(spec.shape.metric_layout(), spec.frequencies(layer), spec.window, spec.offsets),
        jobs_(score_jobs(spec)),
        scores_(jobs_.size()) {
    if (spec.measures(Metric::mae_model))
      real_.emplace(spec.model->metric_layout(), spec.model->rope(layer).inv_freq, spec.window, spec.offsets);
  }

  LayerResult run() {
    if (!spec_.at_real_positions()) {
      parallel_for(jobs_.size(), [&](size_t i) { score_keys(i); });
    } else {
      // It goes head by head, so that the exact logits of a head are computed once for all quantizers.
      const AttentionError attention(real_attention(*spec_.model, layer_), chunk_, spec_.exact.recent);
      for (int head = 0; head < spec_.shape.n_kv_heads; ++head) score_attention(attention, head);
    }
    LayerResult result = assemble(spec_, layer_, scores_);
    result.sink_attention = mean({sink_});
    return result;
  }

 private:
  /// Encodes, decodes and scores the keys of one job by the logit error. Returns the decoded keys (T, D), in
  /// which exact positions are exact.
  std::vector<float> score_keys(size_t job) {
    const AttentionShape& shape = spec_.shape;
    const int dim = shape.layout.head_dim, head = jobs_[job].kv_head, group = shape.group();
    const std::unique_ptr<Quantizer> quantizer = job_quantizer(spec_, jobs_[job], layer_);
    std::vector<float> keys(n_tokens_ * dim), restored(n_tokens_ * dim);  // (T, D)
    for (int64_t t = 0; t < n_tokens_; ++t)
      std::copy_n(k_ + (t * shape.n_kv_heads + head) * dim, dim, keys.data() + t * dim);
    std::vector<uint8_t> codes;
    double bytes = 0;
    HeadScore& score = scores_[job];
    const auto restore = [&](int64_t t, int64_t n) {
      codes.assign(quantizer->code_bytes(n), 0);
      at_layer(layer_,
               [&] { at_head(head, [&] { quantizer->encode(keys.data() + t * dim, n, codes.data()); }); });
      quantizer->decode(codes.data(), n, restored.data() + t * dim);
    };
    for (int64_t t = 0; t < n_tokens_; t += chunk_) {  // every chunk is a text of its own
      const int64_t n = std::min(chunk_, n_tokens_ - t);
      restore(t, n);
      score.clipped += quantizer->clipped(codes.data(), n);
      bytes += held_bytes(*quantizer, spec_.exact, n);
    }
    const auto running = [&](const LogitError& metric) {
      return metric.running_sums(q_ + int64_t(head) * group * dim, int64_t(shape.n_heads) * dim, group,
                                 keys.data(), dim, restored.data(), n_tokens_, chunk_);
    };
    const std::vector<double> sums = running(published_);
    score.mae = sums.back() / (double(n_tokens_) * group * spec_.offsets);
    score.bytes = bytes / double(n_tokens_);
    score.metrics.resize(spec_.metrics.size());
    for (size_t m = 0; m < spec_.metrics.size(); ++m) {
      if (spec_.metrics[m] == Metric::mae) score.metrics[m] = by_chunk(sums);
      if (spec_.metrics[m] == Metric::mae_model) score.metrics[m] = by_chunk(running(*real_));
    }
    if (spec_.exact == ExactWindow{}) return restored;
    restored = keys;  // with exact positions the coded tokens may have other neighbours
    for (int64_t t = 0; t < n_tokens_; t += chunk_) {
      const int64_t n = std::min(chunk_, n_tokens_ - t), n_coded = n - spec_.exact.count(n);
      if (n_coded > 0) restore(t + spec_.exact.sink, n_coded);
    }
    return restored;
  }

  std::vector<ChunkSum> by_chunk(const std::vector<double>& running) const {
    std::vector<ChunkSum> chunks;
    double before = 0;
    for (const double sum : running) {
      const int64_t length = std::min(chunk_, n_tokens_ - int64_t(chunks.size()) * chunk_);
      chunks.push_back({sum - before, double(length) * spec_.shape.group() * spec_.offsets});
      before = sum;
    }
    return chunks;
  }

  void score_attention(const AttentionError& attention, int kv_head) {
    const AttentionShape& shape = spec_.shape;
    const int dim = shape.layout.head_dim;
    std::vector<size_t> mine;
    for (size_t i = 0; i < jobs_.size(); ++i)
      if (jobs_[i].kv_head == kv_head) mine.push_back(i);
    std::vector<std::vector<float>> keys(mine.size());
    parallel_for(mine.size(), [&](size_t i) { keys[i] = score_keys(mine[i]); });
    std::vector<Restored> restored;
    for (const std::vector<float>& k : keys) restored.push_back({k.data(), nullptr});
    HeadActivations head;
    head.q = q_ + int64_t(kv_head) * shape.group() * dim;
    head.q_stride = int64_t(shape.n_heads) * dim;
    head.k = k_ + int64_t(kv_head) * dim;
    head.k_stride = int64_t(shape.n_kv_heads) * dim;
    head.group = shape.group();
    head.n_tokens = n_tokens_;
    if (v_ && spec_.measures(Metric::output)) {
      head.v = v_ + int64_t(kv_head) * shape.v_dim;
      head.v_stride = int64_t(shape.n_kv_heads) * shape.v_dim;
      head.v_dim = shape.v_dim;
    }
    const std::vector<std::vector<AttentionSums>> sums = attention.score(head, restored);
    for (const AttentionSums& chunk : sums.at(0)) {  // of the exact keys: the same beside every quantizer
      sink_.sum += chunk.sink.sum;
      sink_.count += chunk.sink.count;
    }
    for (size_t i = 0; i < mine.size(); ++i)
      for (size_t m = 0; m < spec_.metrics.size(); ++m)
        if (needs_attention(spec_.metrics[m]))
          for (const AttentionSums& chunk : sums[i])
            scores_[mine[i]].metrics[m].push_back(chunk.of(spec_.metrics[m]));
  }

  const EvalSpec& spec_;
  int layer_;
  const float *q_, *k_, *v_;
  int64_t n_tokens_, chunk_;
  LogitError published_;
  std::optional<LogitError> real_;  // on the model's own frequencies
  std::vector<ScoreJob> jobs_;
  std::vector<HeadScore> scores_;
  ChunkSum sink_;
};

}  // namespace

bool EvalSpec::measures(Metric metric) const {
  return std::find(metrics.begin(), metrics.end(), metric) != metrics.end();
}

bool EvalSpec::at_real_positions() const {
  return std::any_of(metrics.begin(), metrics.end(), needs_attention);
}

LayerResult evaluate_layer(const EvalSpec& spec, int layer, const float* q, const float* k, int64_t n_tokens,
                           const float* v) {
  check(n_tokens > 0, "evaluate_layer: no tokens");
  check(v || !spec.measures(Metric::output), "evaluate_layer: output error without values");
  return LayerScorer(spec, layer, q, k, v, n_tokens).run();
}

}  // namespace blockgtq
