#pragma once
#include <cstdint>

#include "base/blocks.h"
#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// One layer's activations, cut into chunks of `chunk` tokens from the first on. The last may be shorter.
struct StatsInput {
  BlockLayout layout;
  int n_heads = 0, n_kv_heads = 0, v_dim = 0;  // Hq, H, Dv
  int64_t n_tokens = 0, chunk = 0;             // T
  const float *q = nullptr, *k = nullptr;      // (T, Hq, D), (T, H, D)
  const float* v = nullptr;                    // (T, H, Dv); null where Dv = 0

  constexpr int64_t n_chunks() const { return (n_tokens + chunk - 1) / chunk; }
  // A chunk's sums lie in this order: q2 (H, B), k2 (H, B), the sum of k (H, D), the sum of v (H, Dv), the
  // sum of v v^T (H, Dv, Dv). The sizes count doubles.
  constexpr int64_t q2_size() const { return int64_t(n_kv_heads) * (layout.head_dim / 2); }
  constexpr int64_t k_size() const { return int64_t(n_kv_heads) * layout.head_dim; }
  constexpr int64_t v_size() const { return int64_t(n_kv_heads) * v_dim; }
  constexpr int64_t vv_size() const { return v_size() * v_dim; }
  constexpr int64_t chunk_size() const { return 2 * q2_size() + k_size() + v_size() + vv_size(); }
};

inline constexpr int kMaxStatsDim = 512;  // of D and Dv

/// sums (n_chunks, chunk_size): the block statistics of lib/quant/stats.h, equal to the CPU's to the last
/// bit. bad (n_chunks, 3): the first token of the chunk with a NaN or infinity in q, k and v; INT32_MAX where
/// all are finite.
void block_stats(const StatsInput& input, double* sums, int32_t* bad, const Stream& stream);

}  // namespace blockgtq::cuda
