#pragma once
#include <memory>
#include <vector>

#include "eval/evaluate.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// One quantizer to score on one KV head.
struct ScoreJob {
  size_t budget, method;  // of the EvalSpec
  double bits;            // of the quantizer: at a fractional budget a method of whole bits gets two jobs
  int kv_head;
};

/// What came of it.
struct HeadScore {
  double mae = 0;
  double code_bytes = 0;  // per token
};

/// The jobs of one layer: budgets, methods, (low and high bits,) KV heads, the last fastest.
std::vector<ScoreJob> score_jobs(const EvalSpec& spec);

std::unique_ptr<Quantizer> job_quantizer(const EvalSpec& spec, const ScoreJob& job, int layer);

/// One layer's results from the scores of its jobs.
LayerResult assemble(const EvalSpec& spec, int layer, const std::vector<HeadScore>& scores);

}  // namespace blockgtq
