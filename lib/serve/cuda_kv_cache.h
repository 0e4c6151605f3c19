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

/// The keys and values of B growing sequences on a GPU, in all layers. They lie in pages of 64 positions: in
/// fp16, packed, or packed with exact pages beside them. Each kind of page has one pool for all sequences,
/// and a page has the same number in all layers.
/// How many tokens a sequence holds is kept on the device, where all steps read it. A step adds one token to
/// every sequence. A sequence without pages takes part at position 0; what it writes and reads is in the
/// table's spare page.
class CudaKvCache {
 public:
  /// capacity: tokens of the longest sequence. There are pages for all sequences at that length, or as many
  /// as most_bytes hold. Exit::device where memory cannot be allocated. Exit::input for trellis codes in
  /// layers with a window, a softcap or sinks.
  CudaKvCache(const AttentionShape& shape, KvKind kind, int batch, int64_t capacity,
              const cuda::Stream& stream, int64_t most_bytes = INT64_MAX);

  int batch() const { return batch_; }
  int64_t capacity() const { return capacity_; }
  int32_t* positions() const { return positions_.as<int32_t>(); }  // (B) tokens held
  /// Bytes of the pages that n tokens of one sequence fill; bytes of all pages.
  int64_t bytes(int64_t n) const;
  int64_t bytes() const;

  /// Whether there are pages for sequences of these lengths, all at once.
  bool holds(std::span<const int64_t> lengths) const;
  /// Exit::device where there are not enough pages for one sequence of n tokens, even alone.
  void require(int64_t n) const;
  /// Gives sequence b pages for its first n tokens, before these are filled or a step reaches them. It keeps
  /// the pages it has. Exit::device where too few are free; then nothing changes. Waits where something does.
  void grow(int b, int64_t n, const cuda::Stream& stream);
  /// Takes back all pages of sequence b. Waits.
  void release(int b, const cuda::Stream& stream);
  /// Pages that no sequence has, and all pages; packed and exact ones together.
  int64_t free_pages() const { return packed_table_->pool().free() + exact_table_->pool().free(); }
  int64_t n_pages() const { return packed_table_->pool().total() + exact_table_->pool().total(); }
  /// Fills the free pages with NaN, for tests. Waits.
  void spoil_free_pages(const cuda::Stream& stream) const;

  /// The n positions that sequence b holds since the last begin_step(), decoded by the CPU code. Waits.
  PlainPositions read(int layer, int b, int64_t n, const cuda::Stream& stream) const;

  /// Prepares a chunk of n tokens of sequence b, behind the `first` tokens that it holds: what the layers
  /// read besides the pages, and where keys and values go. It sets the position on the device for the chunk,
  /// not for a step. Waits.
  void begin_chunk(int b, int64_t first, int64_t n, const cuda::Stream& stream) const;
  /// Attention of one layer for the chunk, to `out`: chunk.tokens, q, k and v over all that is held and,
  /// causally, over themselves, or over the layer's window of it, with the shape's softcap. scratch:
  /// scratch_bytes(). sinks (Hq): one more logit per head, or null.
  void attend_chunk(int layer, int b, int64_t first, cuda::PrefillAttention chunk, void* scratch,
                    const cuda::Stream& stream, const float* sinks = nullptr) const;
  /// Scratch memory for the layers of a chunk of n tokens behind `first`. A longer chunk or text may need
  /// less.
  int64_t scratch_bytes(int64_t first, int64_t n) const;
  /// Puts the chunk's n tokens into the layer's pages, after attend_chunk(): k and v (n, H, D) fp16, k after
  /// RoPE.
  void fill(int layer, int b, int64_t first, int64_t n, const void* k, const void* v,
            const cuda::Stream& stream) const;

  /// Prepares what a step's layers read besides the pages. Call it once per step, before them.
  void begin_step(const cuda::Stream& stream) const;
  /// One layer of a step. Keys and values of `token` (projections, norms, rotation) go into the pages, its
  /// queries go through `token.q`, and out (B, Hq, D) fp16 is attention over all that is held, or over the
  /// layer's window of it, with the shape's softcap. longest: no sequence holds more tokens, this one
  /// included. sinks (Hq): one more logit per head, or null.
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
  /// Pages of each kind that the first n tokens of a sequence need.
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
  int64_t capacity_, sinks_ = 0, ring_ = 0;              // sinks_, ring_: pages of the sink, and of the ring
  std::vector<std::unique_ptr<CudaLayerCache>> layers_;  // (L), or empty
  std::vector<cuda::Buffer> packed_, exact_;             // (L) pages
  std::optional<CudaBlockTable> packed_table_;
  std::optional<CudaBlockTable> exact_table_;  // the sink's pages, the ring's, and one that is never read
  cuda::Buffer positions_, lengths_, exact_lengths_, exact_starts_;
  cuda::Buffer in_order_;  // the exact table in the order in which a step reads it, set by begin_step()
  cuda::Buffer starts_;   // of a chunk: its first position, the exact place of its first recent one, the sink
  cuda::Buffer scratch_;  // of attention
  cuda::Buffer token_k_, token_v_;  // (B, H, D) fp16: a step's tokens before they become trellis codes
};

}  // namespace blockgtq
