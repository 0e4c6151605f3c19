#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "eval/metrics.h"

namespace blockgtq {

/// The keys (and values) of one KV head after encoding and decoding.
struct Restored {
  const float* k = nullptr;  // (T, D)
  const float* v = nullptr;  // (T, Dv); null: the values are exact
};

/// The exact activations of one KV head and its group of query heads, before RoPE.
struct HeadActivations {
  const float* q = nullptr;  // (T, G, D), tokens q_stride floats apart
  const float* k = nullptr;  // (T, D), tokens k_stride floats apart
  const float* v = nullptr;  // (T, Dv), tokens v_stride floats apart
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  int group = 0, v_dim = 0;
  int64_t n_tokens = 0;
};

/// The metrics at real positions of one chunk, as sums over its queries.
struct AttentionSums {
  ChunkSum weighted, kl, topk, output;
  ChunkSum sink;  // exact attention on the first kSinkPositions keys, of queries behind them that see them
  const ChunkSum& of(Metric metric) const;
  AttentionSums& operator+=(const AttentionSums& other);
};

/// Metrics at real positions of several quantizers against one exact pass: the exact logits and softmax of a
/// tile of queries are computed once. float32, summed over queries in float64 in a fixed order. So a value
/// depends neither on the number of threads nor on which quantizers are scored together.
class AttentionError {
 public:
  /// Chunks of `chunk` tokens begin at position 0. Every query sees the last `recent` keys and values
  /// exactly, its own included.
  AttentionError(const RealAttention& attention, int64_t chunk, int64_t recent = 0);

  /// The sums of each of `restored` in each chunk, (n_restored, n_chunks). Runs on threads().
  std::vector<std::vector<AttentionSums>> score(const HeadActivations& head,
                                                std::span<const Restored> restored) const;

 private:
  struct Tile;
  void rotate(int64_t position, float* x) const;  // x (D) in place
  void score_tile(const HeadActivations& head, const Tile& tile, std::span<AttentionSums> sums) const;

  RealAttention attention_;
  int64_t chunk_, recent_;
  std::vector<std::array<int, 2>> coords_;  // (R / 2)
  std::vector<float> turns_;                // (chunk, R / 2, 2) cosine and sine of the rotation
};

}  // namespace blockgtq
