#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// What can be measured of a key quantizer, besides its bytes. l are the exact logits of one query at its
/// real position: causal, within the chunk, after RoPE, divided by sqrt(D). p is their softmax. l^ and p^ are
/// the same with decoded keys.
enum class Metric {
  mae,        // the published one (logit_error.h), on the frequencies asked for
  mae_model,  // the same on the model's own frequencies; its name is "mae-model"
  weighted,   // sum_j p_j |l_j - l^_j|
  kl,         // sum_j p_j log(p_j / p^_j), nats
  topk,       // share of the 8 largest l that are among the 8 largest l^; queries that see more than 8 keys
  output      // |o - o^| / |o| with o = sum_j p_j v_j
};
inline constexpr int kTopK = 8;
inline constexpr int kSinkPositions = 4;  // where attention that looks at nothing in particular goes

/// The metric's name on the command line and in files: "mae", "mae-model", ...
const char* name(Metric metric);
/// Every metric, in the order above.
const std::vector<Metric>& all_metrics();
/// Whether a larger value is better.
inline bool is_share_kept(Metric metric) {
  return metric == Metric::topk;
}
/// Whether it is measured at real positions. That needs full logits, and `output` needs values.
inline bool needs_attention(Metric metric) {
  return metric > Metric::mae_model;
}

/// The sum over one chunk's queries (and offsets), and their number.
struct ChunkSum {
  double sum = 0, count = 0;
};
/// The sum over the count of all chunks together.
double mean(const std::vector<ChunkSum>& chunks);

/// How a layer of the model itself attends. Metrics at real positions are measured with it.
struct RealAttention {
  BlockLayout layout;            // D, R and the pairing
  std::vector<double> inv_freq;  // (R / 2)
  double attention_factor = 1;   // multiplies cosines and sines (yarn)
  double scale = 0;              // factor of q k^T; 0: 1 / sqrt(D)
  int window = 0;                // keys that a query sees, its own the last; 0: all
};
RealAttention real_attention(const AttentionShape& shape, int layer);

/// A metric that was asked for but cannot, or need not, be measured here.
struct LeftOut {
  Metric metric;
  std::string reason;
};

/// A metric with its 95 % interval over chunks; the bounds are NaN with a single chunk.
struct MetricValue {
  Metric metric = Metric::mae;
  double value = 0, low = 0, high = 0;
  std::vector<ChunkSum> chunks;  // (n_chunks) over a layer's heads, or over a model's layers and heads
};

}  // namespace blockgtq
