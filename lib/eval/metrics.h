#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// What can be measured of a key quantizer, beyond its bytes. l are the exact logits of one query at its real
/// position (causal, within the chunk, after RoPE, divided by sqrt(D)), p their softmax, l^ and p^ the same
/// with restored keys.
enum class Metric {
  mae,        // the published one (logit_error.h), on the frequencies asked for
  mae_model,  // the same on the model's own frequencies; "mae-model"
  weighted,   // sum_j p_j |l_j - l^_j|
  kl,         // sum_j p_j log(p_j / p^_j), nats
  topk,   // share of the 8 largest l that are among the 8 largest l^, of queries that see more than 8 keys
  output  // |o - o^| / |o| with o = sum_j p_j v_j
};
inline constexpr int kTopK = 8;
inline constexpr int kSinkPositions = 4;  // where attention that looks at nothing in particular goes

const char* name(Metric metric);
/// Every metric, in the order above.
const std::vector<Metric>& all_metrics();
/// Whether more of it is better.
inline bool is_share_kept(Metric metric) {
  return metric == Metric::topk;
}
/// Whether it is measured at real positions: that needs full logits, and `output` needs values.
inline bool needs_attention(Metric metric) {
  return metric > Metric::mae_model;
}

/// The sum over one chunk's queries (and offsets), and how many they are.
struct ChunkSum {
  double sum = 0, count = 0;
};
/// Sum over count, all chunks together.
double mean(const std::vector<ChunkSum>& chunks);

/// How a layer of the model itself attends: what metrics at real positions are measured with.
struct RealAttention {
  BlockLayout layout;            // D, what is rotated, and how it is paired
  std::vector<double> inv_freq;  // (R / 2)
  double attention_factor = 1;   // on cos and sin (yarn)
  double scale = 0;              // of q k^T; 0: 1 / sqrt(D)
  int window = 0;                // keys that a query sees, its own the last; 0: all
};
RealAttention real_attention(const AttentionShape& shape, int layer);

/// A metric that was asked for and cannot be measured here, or need not.
struct LeftOut {
  Metric metric;
  std::string reason;
};

/// A metric with its 95 % interval over chunks; NaN bounds where there is but one chunk.
struct MetricValue {
  Metric metric = Metric::mae;
  double value = 0, low = 0, high = 0;
  std::vector<ChunkSum> chunks;  // (n_chunks) a layer's heads, or a model's layers and heads, together
};

}  // namespace blockgtq
