#pragma once
#include <cstdint>

#include "kernels/cache/exact_attention.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/page_table.h"
#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// One decoding step: every sequence has one new query per head, which attends to all its positions.
struct DecodeAttention {
  const PackedLayer* layer = nullptr;
  PageTable cache;
  int batch = 0;
  // An upper bound of lengths, which decides how the context is split. The block table covers it; its entries
  // behind a length may be anything.
  int64_t longest = 0;
  int first_page = 0;  // packed positions are [64 first_page, length); earlier pages are not read
  // How many of the last positions the kernel just before this step may write. All else in pages, block table
  // and lengths was written by kernels that had ended when that one began, and is read while it still runs.
  // -1: not known.
  int fresh = -1;
  const ExactPages* exact = nullptr;  // more positions, in fp16: the first and the last ones; or null
  const void* q = nullptr;            // (B, Hq, D), after RoPE
  void* out = nullptr;                // (B, Hq, D)
  FloatType type = FloatType::f16;    // of q and out: f16 or bf16
  float scale = 0;                    // of the logits; 1 / sqrt(D)
  AttentionRule rule;
};

/// Bytes of scratch that a step takes.
int64_t decode_scratch_bytes(const DecodeAttention& step);

/// out = softmax(scale q K^T) V over keys and values as their codes say, and over the exact ones. A sequence
/// of length 0 gives zeros. Head dimensions: 64, 80, 96, 128 and 256.
void decode_attention(const DecodeAttention& step, void* scratch, const Stream& stream);

}  // namespace blockgtq::cuda
