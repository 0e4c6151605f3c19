#pragma once
#include <cstdint>

#include "kernels/cache/packed_encode.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/page_table.h"
#include "kernels/forward/rope.h"

namespace blockgtq::cuda {

/// What a group's codes need: between and at the magnitudes of its codebook, rising.
struct alignas(16) AppendGroup {
  float thresholds[128] = {};  // 2^(bits - 1) - 1
  float levels[128] = {};      // 2^(bits - 1)
};

/// The appender's side of a packed layer, for keys and for values.
struct AppendLayer {
  struct Side {
    const void* forward = nullptr;  // (H, D, places) fp16: F transposed, in the order of slabs' places; zero
                                    // where a slab has no coordinate
    const AppendGroup* groups = nullptr;  // (H, kMaxEncodeGroups)
    const float* mean = nullptr;          // (H, D), keys: before RoPE; or null
    int places = 0;                       // 16 times the most slabs of any head
    int n_norms = 1;                      // the most of any head
  };
  Side key, value;
};

/// One new token per sequence of a layer on its way from the projections into the cache and to attention.
/// Pages: packed, exact, both or neither.
struct AppendToken {
  int batch = 0, n_heads = 0, n_kv_heads = 0, dim = 0;  // B, Hq, H, D: a multiple of 16, at most 256
  const float* projected = nullptr;                     // (B, Hq + 2 H, D): q, k, v
  /// Norm over a head: x / sqrt(mean(x^2) + eps) * (weight + offset); (D) or null.
  const float *q_norm = nullptr, *k_norm = nullptr;
  float norm_offset = 0, norm_eps = 0;
  RopeTable rope;                      // cos null: q and k are not turned
  float rope_factor = 1;               // on its cosines and sines: the mean is turned without
  const int32_t* positions = nullptr;  // (B), below rope.length

  const PackedLayer* layer = nullptr;  // packed pages, or null
  const AppendLayer* append = nullptr;
  uint8_t* packed_pages = nullptr;
  PageTable packed;  // lengths are not read

  uint8_t* exact_pages = nullptr;  // or null
  PageTable exact;
  const int32_t* exact_starts = nullptr;  // (B) places among the exact positions

  void* q = nullptr;                // (B, Hq, D) fp16: queries normed and turned
  void *k = nullptr, *v = nullptr;  // (B, H, D) fp16 likewise, for pages that another kernel writes; or null
};

/// Positions, tables and pages but for exact_starts and the exact table are read before the kernel before has
/// ended: what writes them must have ended when that one began. Keys and values go into their pages, rounded
/// to fp16 or as their codes, and to k and v; other positions stay as they are. One launch, which may begin
/// while the one before it ends.
void append_token(const AppendToken& token, const Stream& stream);

}  // namespace blockgtq::cuda
