#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "eval/metrics.h"

namespace blockgtq {

/// What one quantizer left of the keys (and values) of a KV head.
struct Restored {
  const float* k = nullptr;  // (T, D)
  const float* v = nullptr;  // (T, Dv), or null: the exact values
};

/// The exact activations of one KV head and its group, before RoPE.
struct HeadActivations {
  const float* q = nullptr;  // (T, G, D), tokens q_stride apart
  const float* k = nullptr;  // (T, D), tokens k_stride apart
  const float* v = nullptr;  // (T, Dv), tokens v_stride apart
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  int group = 0, v_dim = 0;
  int64_t n_tokens = 0;
};

/// The metrics at real positions of one chunk: sums over its queries.
struct AttentionSums {
  ChunkSum weighted, kl, topk, output;
  ChunkSum sink;  // exact attention on the first kSinkPositions keys, of queries behind them that see them
  const ChunkSum& of(Metric metric) const;
  AttentionSums& operator+=(const AttentionSums& other);
};

/// Metrics at real positions, several quantizers against one exact pass: the exact logits and softmax of a
/// tile of queries are computed once. float32, summed over queries in float64 in a fixed order: the value
/// depends neither on the number of threads nor on which quantizers are scored together.
class AttentionError {
 public:
  /// Every query sees the last `recent` keys and values as they are, its own counted, whatever was restored.
  AttentionError(const RealAttention& attention, int64_t chunk, int64_t recent = 0);

  /// (n_restored, n_chunks). Runs on threads().
  std::vector<std::vector<AttentionSums>> score(const HeadActivations& head,
                                                std::span<const Restored> restored) const;

 private:
  struct Tile;
  void rotate(int64_t position, float* x) const;  // x (D) in place
  void score_tile(const HeadActivations& head, const Tile& tile, std::span<AttentionSums> sums) const;

  RealAttention attention_;
  int64_t chunk_, recent_;
  std::vector<std::array<int, 2>> coords_;  // (R / 2)
  std::vector<float> turns_;                // (chunk, R / 2, 2) cosine and sine
};

}  // namespace blockgtq
