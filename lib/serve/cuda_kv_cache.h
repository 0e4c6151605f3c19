#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/attention.h"
#include "cache/cuda_layer_cache.h"
#include "kernels/cache/attention_rule.h"
#include "kernels/cache/kv_lengths.h"
#include "kernels/cache/packed_prefill.h"
#include "kernels/forward/rope.h"
#include "quant/attention_shape.h"
#include "serve/cuda_block_table.h"
#include "serve/kv_kind.h"

namespace blockgtq {

/// The keys and values of B sequences that grow on a GPU, all layers: pages of 64 positions, in fp16, packed,
/// or packed with exact ones beside. Each kind of page has one pool for all sequences, and a page has the
/// same number in all layers. What a sequence holds is said by its position on the device, which all steps
/// read; a step adds one token to every sequence. One that has no pages takes part at position 0, and what it
/// writes and reads lies in a page of its like.
class CudaKvCache {
 public:
  /// capacity: tokens of the longest sequence. There are pages for all sequences at that length, or as many
  /// as most_bytes hold. Exit::device where the memory cannot be had, Exit::input for trellis codes
  /// in layers with a window, a softcap or sinks.
  CudaKvCache(const AttentionShape& shape, KvKind kind, int batch, int64_t capacity,
              const cuda::Stream& stream, int64_t most_bytes = INT64_MAX);

  int batch() const { return batch_; }
  int64_t capacity() const { return capacity_; }
  int32_t* positions() const { return positions_.as<int32_t>(); }  // (B) tokens held
  /// Bytes of pages that n tokens of one sequence fill; of all pages.
  int64_t bytes(int64_t n) const;
  int64_t bytes() const;

  /// Whether sequences of these lengths find pages, all of them at once.
  bool holds(std::span<const int64_t> lengths) const;
  /// Exit::device where a sequence of n tokens finds none even alone.
  void require(int64_t n) const;
  /// Gives sequence b pages for its first n tokens, before they are filled or a step comes to them; it keeps
  /// those it has. Exit::device where too few are free: then nothing changes. Waits where something does.
  void grow(int b, int64_t n, const cuda::Stream& stream);
  /// Takes all pages of sequence b back. Waits.
  void release(int b, const cuda::Stream& stream);
  /// Pages that no sequence has, packed and exact ones.
  int64_t free_pages() const { return packed_table_->pool().free() + exact_table_->pool().free(); }
  int64_t n_pages() const { return packed_table_->pool().total() + exact_table_->pool().total(); }
  /// Fills the pages that no sequence has with NaN, for checks. Waits.
  void spoil_free_pages(const cuda::Stream& stream) const;

  /// The n positions that sequence b holds since the last begin_step(), as the CPU twin reads its pages.
  /// Waits.
  PlainPositions read(int layer, int b, int64_t n, const cuda::Stream& stream) const;

  /// Before the layers of a chunk of n tokens of sequence b, behind the `first` that it holds: what they read
  /// beside the pages, and where its keys and values go. Sets the position, not for a step. Waits.
  void begin_chunk(int b, int64_t first, int64_t n, const cuda::Stream& stream) const;
  /// A layer's part of the chunk: attention of its `tokens`, q, k and v over all that is held and over
  /// themselves, causally, or over the layer's window of it, with the shape's softcap, to `out`. scratch:
  /// scratch_bytes(). sinks (Hq): one more logit of a head, or null.
  void attend_chunk(int layer, int b, int64_t first, cuda::PrefillAttention chunk, void* scratch,
                    const cuda::Stream& stream, const float* sinks = nullptr) const;
  /// Of the layers of a chunk of n tokens behind `first`. A longer chunk or text may take less.
  int64_t scratch_bytes(int64_t first, int64_t n) const;
  /// Then puts the chunk's n tokens into the pages of the layer: k and v (n, H, D) fp16, k after RoPE.
  void fill(int layer, int b, int64_t first, int64_t n, const void* k, const void* v,
            const cuda::Stream& stream) const;

  /// What a step's layers read beside the pages; once per step, before them.
  void begin_step(const cuda::Stream& stream) const;
  /// A layer's part of a step: keys and values of `token` (projections, norms, rotation) go into the pages,
  /// its queries through `token.q`, and out (B, Hq, D) fp16 = attention over all that is held, or the layer's
  /// window of it, with the shape's softcap. longest: no sequence holds more, this token counted. sinks (Hq):
  /// one more logit of a head, or null.
  void attend(int layer, cuda::AppendToken token, void* out, int64_t longest, const cuda::Stream& stream,
              const float* sinks = nullptr) const;

 private:
  cuda::PageTable packed_pages(int layer) const;
  cuda::PageTable exact_pages(int layer) const;
  ExactWindow window() const { return kind_.window(capacity_); }
  cuda::AttentionRule rule(int layer) const;
  int64_t packed_page_bytes(int layer) const;
  int64_t page_bytes_of_exact() const;  // of one layer
  void make_pages(int64_t most_bytes, const cuda::Stream& stream);
  /// Pages of each kind that the first n tokens of a sequence take.
  int64_t packed_pages_of(int64_t n) const;
  int64_t exact_pages_of(int64_t n) const;
  float scale() const;
  int64_t first_recent(int64_t first, int64_t n) const;
  int64_t ring_place(int64_t first, int64_t t) const;
  void describe(int layer, int b, int64_t first, cuda::PrefillAttention& chunk,
                cuda::ExactPages& exact) const;
  void fill_exact(int layer, const cuda::PageTable& pages, const int32_t* start, int64_t tokens,
                  const void* k, const void* v, const cuda::Stream& stream) const;

  AttentionShape shape_;
  KvKind kind_;
  int batch_;
  int64_t capacity_, sinks_ = 0, ring_ = 0;              // sinks_: pages of the sink
  std::vector<std::unique_ptr<CudaLayerCache>> layers_;  // (L), or empty
  std::vector<cuda::Buffer> packed_, exact_;             // (L) pages
  std::optional<CudaBlockTable> packed_table_;
  std::optional<CudaBlockTable> exact_table_;  // the sink's, the ring's, and one for what is not exact
  cuda::Buffer positions_, lengths_, exact_lengths_, exact_starts_;
  cuda::Buffer in_order_;  // the exact table as a step reads it, from begin_step() on
  cuda::Buffer starts_;   // of a chunk: its first position, the exact place of its first recent one, the sink
  cuda::Buffer scratch_;  // of attention
  cuda::Buffer token_k_, token_v_;  // (B, H, D) fp16: a step's tokens on their way into trellis codes
};

}  // namespace blockgtq
