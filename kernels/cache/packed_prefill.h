#pragma once
#include <cstdint>

#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_table.h"
#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// A chunk of T new tokens per sequence behind a prefix: query i sees all positions of the prefix, packed
/// ones and exact ones, and the chunk's own tokens 0 .. i, whose keys and values are exact.
struct PrefillAttention {
  const PackedLayer* layer = nullptr;        // null: no position is packed
  int dim = 0, n_heads = 0, n_kv_heads = 0;  // D, Hq, H where `layer` is null; else the layer's, and not read
  PageTable cache;                           // packed pages; not read where `layer` is null
  int first_page = 0;  // packed positions are [64 first_page, length); pages before are not read
  const ExactPages* exact = nullptr;  // more positions of the prefix, not packed; or null
  int batch = 0;
  int64_t tokens = 0;       // T
  int64_t longest = 0;      // an upper bound of cache.lengths
  const void* q = nullptr;  // (B, T, Hq, D) fp16, after RoPE
  const void* k = nullptr;  // (B, T, H, D) fp16, after RoPE
  const void* v = nullptr;  // (B, T, H, D) fp16
  void* out = nullptr;      // (B, T, Hq, D) fp16
  float scale = 0;          // of the logits; 1 / sqrt(D)
};

/// Bytes of scratch that a chunk takes, 16-byte aligned.
int64_t prefill_scratch_bytes(const PrefillAttention& chunk);

/// out = softmax(scale q K^T) V. Head dimensions: those of decode_attention().
void prefill_attention(const PrefillAttention& chunk, void* scratch, const Stream& stream);

}  // namespace blockgtq::cuda
