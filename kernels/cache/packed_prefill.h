#pragma once
#include <cstdint>

#include "kernels/cache/attention_rule.h"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/trellis_table.h"
#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// A chunk of T new tokens per sequence behind a prefix. Query i sees all positions of the prefix, packed and
/// exact, and the chunk's own tokens 0 .. i, whose keys and values are exact.
struct PrefillAttention {
  const PackedLayer* layer = nullptr;        // null: no position is packed
  const TrellisLayer* trellis = nullptr;     // where pages hold trellis codes; `layer` is then its `packed`
  int dim = 0, n_heads = 0, n_kv_heads = 0;  // D, Hq, H where `layer` is null; else not read
  PageTable cache;                           // packed pages; not read where `layer` is null
  int first_page = 0;  // packed positions are [64 first_page, length); earlier pages are not read
  const ExactPages* exact = nullptr;  // more positions of the prefix, in fp16; or null
  int batch = 0;
  int64_t tokens = 0;       // T
  int64_t longest = 0;      // an upper bound of cache.lengths
  const void* q = nullptr;  // (B, T, Hq, D) fp16, after RoPE, 16-byte aligned
  const void* k = nullptr;  // (B, T, H, D) fp16, after RoPE
  const void* v = nullptr;  // (B, T, H, D) fp16
  void* out = nullptr;      // (B, T, Hq, D) fp16
  float scale = 0;          // of the logits; 1 / sqrt(D)
  AttentionRule rule;       // its positions are not read: a chunk stands behind its prefix
};

/// How a chunk is computed; results differ by rounding only.
struct PrefillOptions {
  int64_t most_bytes = int64_t(256) << 20;  // of the prefix's tiles at a time
  bool any_device = false;                  // use the kernel that all devices run
};

/// Bytes of scratch, 128-byte aligned, that a chunk takes. These are the prefix's tiles, up to `most_bytes`;
/// 4 D per token and KV head of the chunk; and where the prefix is walked in pieces or few rows are cut into
/// parts, 4 (D + 2) per token and query head of each part. A smaller chunk may take more than a larger one,
/// by up to 64 MiB.
int64_t prefill_scratch_bytes(const PrefillAttention& chunk, const PrefillOptions& options = {});

/// out = softmax(scale q K^T) V under the rule. With a window the prefix's exact positions are the first 64
/// first_page of a sequence and its last ones, and the packed ones lie between. Head dimensions are those of
/// decode_attention(). Packed keys and values count as the fp16 numbers nearest to what their codes say.
/// Nothing synchronizes.
void prefill_attention(const PrefillAttention& chunk, void* scratch, const Stream& stream,
                       const PrefillOptions& options = {});

/// The first step of it alone, for all pieces: turns keys and values into tiles. For measurements.
void expand_for_prefill(const PrefillAttention& chunk, void* scratch, const Stream& stream);

}  // namespace blockgtq::cuda
