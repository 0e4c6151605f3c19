#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "eval/metrics.h"
#include "quant/bit_map.h"
#include "quant/codebook.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// What to measure: every method at every budget, by one or more metrics.
struct EvalSpec {
  AttentionShape shape;    // layout and heads of the activations
  bool raw_theta = false;  // the metric takes frequencies without scaling
  std::vector<std::string> methods;
  std::vector<Budget> budgets;               // their bits may be empty where no method needs a map
  std::vector<HeadCalibration> calibration;  // (L, H); empty where no method needs it
  Codebook codebook = Codebook::by_method;
  uint64_t seed = 42;
  int window = 1024, offsets = 50;  // offsets of the mean absolute error: linspace(-window, window, offsets)
  std::vector<Metric> metrics;      // per chunk and with intervals; empty: only the mean absolute error
  ExactWindow exact;                // positions of every chunk that are exact for metrics at real positions
  std::vector<LeftOut> left_out;
  std::optional<AttentionShape> model;  // how the model itself attends, where that is known
  int64_t chunk = 0;                    // tokens; each chunk begins at position 0; 0: one window

  /// Frequencies of the metric on this layer, one per block of shape.metric_layout().
  const std::vector<double>& frequencies(int layer) const {
    return raw_theta ? shape.rope(layer).inv_freq_raw : shape.rope(layer).inv_freq;
  }
  bool measures(Metric metric) const;
  bool at_real_positions() const;  // whether any metric is measured there
};

/// One method at one budget on one layer. At a fractional budget, a method of whole bits is interpolated
/// geometrically between its two neighbours.
struct MethodResult {
  std::string method;
  double bits = 0;  // the budget's average bits per coordinate
  double mae = 0;   // mean over KV heads, in units of q k^T
  std::vector<double> mae_per_kv_head;
  double effective_bits = 0;   // per key coordinate; norms, padding and exact positions count
  double bytes_per_token = 0;  // of all KV heads of the layer
  bool interpolated = false;
  int64_t clipped = 0;               // fp16 norms and scales that were clipped to 65504
  std::vector<MetricValue> metrics;  // as in EvalSpec
};

/// All methods at all budgets on one layer.
struct LayerResult {
  int layer = 0;
  std::vector<MethodResult> results;  // budgets outside, methods inside, as in EvalSpec
  // Mean attention on the first kSinkPositions keys, of queries behind them that see them; NaN where nothing
  // was measured at real positions.
  double sink_attention = std::numeric_limits<double>::quiet_NaN();
};

/// Encodes, decodes and scores one layer's keys. q (T, Hq, D), k (T, H, D). v (T, H, Dv) may be null where no
/// metric needs it. Exit::nonfinite, named by layer and KV head, where a key cannot be encoded.
LayerResult evaluate_layer(const EvalSpec& spec, int layer, const float* q, const float* k, int64_t n_tokens,
                           const float* v = nullptr);

/// One method at one budget, over all layers.
struct SummaryRow {
  std::string method;
  double bits = 0, mae = 0;    // mean over layers
  double ratio_to_tq_mse = 0;  // of the means; NaN without tq-mse or where it has no error
  // To the error that tq-mse would have at the same effective bits, on the line through its budgets (log MAE
  // over effective bits), continued beyond the outermost; NaN from fewer than two of them and for itself.
  double ratio_at_equal_bytes = 0;
  int wins = 0, layers = 0;                        // layers where this MAE is below tq-mse's
  double effective_bits = 0, bytes_per_token = 0;  // mean over layers; sum over layers
  std::vector<MetricValue> metrics;                // mean over layers
};
/// One row per budget and method.
std::vector<SummaryRow> summarize(const std::vector<LayerResult>& layers);

}  // namespace blockgtq
