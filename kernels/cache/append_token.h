#pragma once
#include <cstdint>

#include "kernels/cache/packed_encode.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/page_table.h"
#include "kernels/forward/rope.h"

namespace blockgtq::cuda {

/// What the codes of a group need: the magnitudes of its codebook, and the thresholds between
/// them, both rising.
struct alignas(16) AppendGroup {
  float thresholds[128] = {};  // 2^(bits - 1) - 1
  float levels[128] = {};      // 2^(bits - 1)
};

/// The appender's tables of a packed layer, for keys and for values.
struct AppendLayer {
  struct Side {
    // (H, D, places) fp16: F transposed, in the order of slabs' places; zero where a slab has no coordinate.
    const void* forward = nullptr;
    const AppendGroup* groups = nullptr;  // (H, kMaxEncodeGroups)
    const float* mean = nullptr;          // (H, D), for keys before RoPE; or null
    int places = 0;                       // 16 times the largest number of slabs of a head
    int n_norms = 1;                      // the largest number of a head
  };
  Side key, value;
};

/// One new token per sequence of a layer, on its way from the projections into the cache and to attention.
/// Its pages may be packed, exact, both or neither.
struct AppendToken {
  int batch = 0, n_heads = 0, n_kv_heads = 0, dim = 0;  // B, Hq, H, D: a multiple of 16, at most 256
  const float* projected = nullptr;                     // (B, Hq + 2 H, D): q, k, v
  /// The norm over a head: x / sqrt(mean(x^2) + eps) * (weight + offset), with weights (D); null: none.
  const float *q_norm = nullptr, *k_norm = nullptr;
  float norm_offset = 0, norm_eps = 0;
  RopeTable rope;         // cos null: q and k are not rotated
  float rope_factor = 1;  // contained in rope's cosines and sines; the mean is rotated without it
  const int32_t* positions = nullptr;  // (B), below rope.length

  const PackedLayer* layer = nullptr;  // packed pages, or null
  const AppendLayer* append = nullptr;
  uint8_t* packed_pages = nullptr;
  PageTable packed;  // lengths are not read

  uint8_t* exact_pages = nullptr;  // or null
  PageTable exact;
  const int32_t* exact_starts = nullptr;  // (B) where the token goes among the exact positions

  void* q = nullptr;                // (B, Hq, D) fp16: queries, normed and rotated
  void *k = nullptr, *v = nullptr;  // (B, H, D) fp16, for pages that another kernel writes; or null
};

/// One launch, which may begin while the preceding kernel ends. Keys and values go into their pages, rounded
/// to fp16 or as codes, and to k and v. Other positions stay as they are. Positions, tables and pages are
/// read before the preceding kernel has ended, except exact_starts and the exact block table. So the kernels
/// that write them must have ended when the preceding one began.
void append_token(const AppendToken& token, const Stream& stream);

}  // namespace blockgtq::cuda
