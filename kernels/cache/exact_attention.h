#pragma once
#include <cstdint>

#include "kernels/cache/attention_rule.h"
#include "kernels/cache/merge.h"
#include "kernels/cache/page_table.h"
#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// Keys and values in fp16, in pages as cache/exact_page.h lays them out.
struct ExactPages {
  PageTable cache;
  int64_t longest = 0;  // an upper bound of lengths, which decides how the context is split
  // How many of the positions are the sequence's first ones; the others are its last. It means nothing where
  // the sequence has no positions elsewhere.
  int64_t first = 0;
};

/// One decoding step over exact pages: every sequence has one new query per head, which attends to
/// all positions.
struct ExactAttention {
  int dim = 0, n_heads = 0, n_kv_heads = 0, batch = 0;  // D, Hq, H, B
  ExactPages pages;
  const void* q = nullptr;          // (B, Hq, D), after RoPE
  void* out = nullptr;              // (B, Hq, D)
  FloatType type = FloatType::f16;  // of q and out: f16 or bf16
  float scale = 0;                  // of the logits; positive
  AttentionRule rule;
};

/// Bytes of scratch that a step takes.
int64_t exact_scratch_bytes(const ExactAttention& step);

/// out = softmax(scale q K^T) V. A sequence of length 0 gives zeros.
void exact_attention(const ExactAttention& step, void* scratch, const Stream& stream);

/// Attention over positions that another attention kernel, just launched on this stream, does not hold. It
/// runs beside that kernel and leaves its splits in `sums`, which takes exact_sums_bytes(). `out` is not
/// used. The other kernel must let its successor start only after it has waited for its predecessor.
int64_t exact_sums_bytes(const ExactAttention& step);
SplitSums exact_sums(const ExactAttention& step, float* sums, const Stream& stream);

/// New keys and values of a layer, on their way into the pages: T tokens of each of B sequences, at positions
/// starts[b] and on.
struct AppendExact {
  int dim = 0, n_kv_heads = 0, batch = 0;
  PageTable cache;                  // lengths are not read; pages are written
  uint8_t* pages = nullptr;         // the same pages
  const int32_t* starts = nullptr;  // (B)
  int64_t tokens = 0;               // T
  const void* k = nullptr;          // (B, T, H, D) after RoPE
  const void* v = nullptr;          // (B, T, H, D)
  FloatType type = FloatType::f16;
};

/// Writes them into the pages, clipped to fp16's 65504. Other positions of these pages stay as they are.
void append_exact(const AppendExact& job, const Stream& stream);

}  // namespace blockgtq::cuda
