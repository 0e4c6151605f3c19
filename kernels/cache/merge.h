#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// The most splits of one kernel, and of one that runs beside it.
inline constexpr int kMostSplits = 192, kMostSplitsBeside = 64;

/// Query heads in the result of a split: the columns of one or two products.
constexpr int heads_per_chunk(int group) {
  return group <= 8 ? 8 : 16;
}

/// What an attention kernel leaves of every split and head: the sum of weights e^(s - m) times values, for
/// packed values with centres the sums of weights by centre, and four numbers. These are m, the largest logit
/// (or any other number) times log2(e); the sum of weights; for packed splits with a value mean, the sum of
/// the weights of positions that do not keep it; and one unused.
struct SplitSums {
  // (B, H, chunks, splits): (heads_per_chunk, D + centre rows), (heads_per_chunk, 4)
  const float* sums = nullptr;
  int splits = 0;
};

/// Floats of a split. rows: D, and the rows of centres.
constexpr int split_floats(int rows, int heads) {
  return heads * (rows + 4);
}

constexpr int64_t split_sums_bytes(int rows, int n_heads, int n_kv_heads, int batch, int splits) {
  const int group = n_heads / n_kv_heads, heads = heads_per_chunk(group);
  return int64_t(batch) * n_kv_heads * ((group + heads - 1) / heads) * splits * split_floats(rows, heads) * 4;
}

/// Combines splits into the result.
struct MergeSplits {
  int dim = 0, n_heads = 0, n_kv_heads = 0, batch = 0;  // D, Hq, H, B
  SplitSums packed;                                     // their outputs are still to be multiplied with B_v
  SplitSums exact;
  const void* value_back = nullptr;  // (H, value_rows, D) fp16: B_v^T
  int value_rows = 0;
  const float* value_mean = nullptr;  // (H, D) or null: the mean that packed values lack
  const void* centres = nullptr;      // (H, centre_rows, D) fp16 or null: the centres that they lack
  void* out = nullptr;                // (B, Hq, D)
  FloatType type = FloatType::f16;    // of out: f16 or bf16
  const float* sinks = nullptr;       // AttentionRule::sinks
};
void merge_splits(const MergeSplits& job, const Stream& stream);

}  // namespace blockgtq::cuda
