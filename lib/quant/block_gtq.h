#pragma once
#include <span>
#include <vector>

#include "base/blocks.h"
#include "quant/quantizer.h"
#include "quant/tq_mse.h"

namespace blockgtq {

/// Block-GTQ (arXiv 2606.24033). Blocks that share a bit width form a group. A group is encoded by TqMse of
/// dimension 2 * |group| with rotation seed `seed + bits`; its coordinates come block by block, in
/// group_order(). A code holds the fp16 norms of the groups in ascending bit width, then their bit streams in
/// the same order, padded to a byte at the end.
class BlockGtq final : public Quantizer {
 public:
  /// bits (n_blocks) in 1..8.
  BlockGtq(const BlockLayout& layout, std::span<const uint8_t> bits, uint64_t seed = 42,
           Codebook codebook = Codebook::reference);
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override { return n * code_bytes_; }
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  std::vector<CodeGroup> groups() const override;
  std::optional<LinearCode> linear_code() const override;
  int n_groups() const { return int(groups_.size()); }

 private:
  size_t n_halves() const override { return groups_.size(); }

  struct Group {
    TqMse tq;
    std::vector<int> coords;  // (2 * |group|) indices into the head
    size_t bit_offset;        // of its stream in a code
  };
  int dim_;
  size_t code_bytes_;
  std::vector<Group> groups_;  // ascending bit width
};

/// The uniform baseline: TqMse over the whole head in its raw coordinate order, rotation seed `seed`. A code
/// holds the fp16 norm, then one bit stream.
class UniformTqMse final : public Quantizer {
 public:
  UniformTqMse(int head_dim, int bits, uint64_t seed = 42, Codebook codebook = Codebook::reference);
  int dim() const override { return tq_.dim(); }
  size_t code_bytes(size_t n = 1) const override;
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  std::vector<CodeGroup> groups() const override;
  std::optional<LinearCode> linear_code() const override;

 private:
  size_t n_halves() const override { return 1; }

  TqMse tq_;
  std::vector<int> coords_;  // (D) 0, 1, 2, ...
};

}  // namespace blockgtq
