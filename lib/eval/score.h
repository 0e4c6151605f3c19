#pragma once
#include <memory>
#include <vector>

#include "eval/evaluate.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// One quantizer to score on one KV head.
struct ScoreJob {
  size_t budget, method;  // indices into the EvalSpec
  double bits;            // of the quantizer; a method of whole bits has two jobs at a fractional budget
  int kv_head;
};

/// The result of one job.
struct HeadScore {
  double mae = 0;
  double bytes = 0;                            // per token
  std::vector<std::vector<ChunkSum>> metrics;  // (n_metrics, n_chunks)
  int64_t clipped = 0;                         // fp16 numbers of the codes that were clipped to 65504
};

/// The jobs of one layer: budgets, methods, (low and high bits,) KV heads, the last index fastest.
std::vector<ScoreJob> score_jobs(const EvalSpec& spec);

/// The quantizer of a job. Errors as make_key_quantizer().
std::unique_ptr<Quantizer> job_quantizer(const EvalSpec& spec, const ScoreJob& job, int layer);

/// A metric over all chunks of several heads or layers, parts (n_parts, n_chunks), with its interval.
MetricValue metric_value(Metric metric, const std::vector<std::vector<ChunkSum>>& parts);

/// One layer's results from the scores of score_jobs(), in their order.
LayerResult assemble(const EvalSpec& spec, int layer, const std::vector<HeadScore>& scores);

}  // namespace blockgtq
