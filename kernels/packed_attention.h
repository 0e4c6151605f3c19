#pragma once
#include <cstdint>

#include "device.h"
#include "packed_table.h"

namespace blockgtq::cuda {

/// Pages of one layer in device memory, found through a block table: position t of sequence b lies in page
/// block_table[b][t / 64].
struct PageTable {
  const uint8_t* pages = nullptr;        // (n_pages, page_bytes), 16-byte aligned
  const int32_t* block_table = nullptr;  // (B, stride)
  int64_t stride = 0;
  const int32_t* lengths = nullptr;  // (B) positions held
};

/// One decoding step: every sequence has one new query per head, which attends to all its positions.
struct DecodeAttention {
  const PackedLayer* layer = nullptr;
  PageTable cache;
  int batch = 0;
  int64_t longest = 0;      // an upper bound of lengths: decides how the context is split
  const void* q = nullptr;  // (B, Hq, D) fp16, after RoPE
  void* out = nullptr;      // (B, Hq, D) fp16
  float scale = 0;          // of the logits; 1 / sqrt(D)
};

/// Whether there is a kernel for this head dimension.
bool decode_attention_supports(int head_dim);

/// Bytes of scratch that a step takes.
int64_t decode_scratch_bytes(const DecodeAttention& step);

/// out = softmax(scale q K^T) V over keys and values as their codes say. A sequence of length 0 gives zeros.
void decode_attention(const DecodeAttention& step, void* scratch, const Stream& stream);

}  // namespace blockgtq::cuda
