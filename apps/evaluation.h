#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/evaluate.h"
#include "quant/bit_map.h"
#include "session.h"

namespace blockgtq {

/// What eval-logits and panel ask of one model.
struct EvalRequest {
  std::vector<std::string> methods;
  std::vector<double> bits;     // empty: every budget of the map
  const BitMap* map = nullptr;  // may be null when no method needs one
  std::string theta = "model";  // frequencies of the metric: model, or raw (no llama3 or yarn scaling)
  Codebook codebook = Codebook::by_method;
  int window = 1024, offsets = 50;
};

/// Exit::input says what differs between a map's attention and the model's.
void check_same_attention(const AttentionShape& map, const AttentionShape& model);

/// The activations' attention must be the map's.
EvalSpec make_eval_spec(const EvalRequest& request, const AttentionShape& shape);

/// What to measure beside the published error.
struct MetricOptions {
  std::string metrics = "mae";
  ExactWindow exact;  // of those at real positions
};
void add_metric_options(CLI::App& command, MetricOptions& options);
/// Exit::usage for exact positions without a metric that has positions, and as parse_metrics.
std::vector<Metric> chosen_metrics(const MetricOptions& options);

/// Asks for these metrics as well (model: how it attends itself; none: unknown); those that cannot be
/// measured on this attention go to spec.left_out, and are warned about.
void set_metrics(EvalSpec& spec, const MetricOptions& options, const std::optional<AttentionShape>& model,
                 int64_t chunk, Progress& progress);

/// One line where fp16 norms or scales were cut to the largest fp16 number: errors are then those of the
/// format.
void warn_clipped(int64_t clipped, const std::string& of, Progress& progress);
/// The same of all results.
void warn_clipped(const std::vector<LayerResult>& layers, Progress& progress);

/// One forward pass, every layer scored as it comes by. resume: null, or what keeps the results between two
/// layers and goes on with those of an earlier run.
std::vector<LayerResult> evaluate_session(const EvalSpec& spec, Session& session, Progress& progress,
                                          ResumeFile* resume);

/// The document of `eval-logits --json` (schema blockgtq.eval-logits/1).
Json eval_json(const EvalSpec& spec, const std::vector<LayerResult>& layers, const Provenance& provenance,
               int64_t n_tokens, int64_t chunk, const std::string& device);

/// The budget that --bits names, or the only one the map holds.
const Budget& choose_budget(const BitMap& map, const std::string& bits);

}  // namespace blockgtq
