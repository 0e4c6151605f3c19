#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/attention_shape.h"

namespace blockgtq {

/// Sums whose value does not depend on how the chunks were cut into runs: partial sums are kept per dyadic
/// interval of absolute chunk numbers and added in that tree's order, so that merging is exact to the last
/// bit.
class DyadicSum {
 public:
  struct Node {
    int64_t first, count;       // chunks [first, first + count), count a power of two dividing first
    std::vector<double> value;  // (size)
  };
  void add_chunk(int64_t chunk, std::vector<double> value);  // chunks in ascending order, no gaps
  void append(const DyadicSum& next);                        // a neighbour that begins where this one ends
  std::vector<double> total() const;                         // left to right over the nodes
  const std::vector<Node>& nodes() const { return nodes_; }
  void set_nodes(std::vector<Node> nodes) { nodes_ = std::move(nodes); }

 private:
  void collapse();
  std::vector<Node> nodes_;  // ascending, maximal
};

/// One layer's calibration statistics in float64: sums, never means. H KV heads, B blocks, D, Dv dimensions.
struct LayerStats {
  // per chunk: the block sums, for intervals and for exact merging
  std::vector<double> q2;     // (n_chunks, H, B) sum over tokens and the group's query heads of |q^(i)|^2
  std::vector<double> k2;     // (n_chunks, H, B) sum over tokens of |k^(i)|^2
  std::vector<double> k_sum;  // (n_chunks, H, D) sum over tokens of k
  std::vector<double> v_sum;  // (n_chunks, H, Dv)
  DyadicSum kk;               // (H, D, D) sum over tokens of k k^T; empty in files of older versions
  DyadicSum vv;               // (H, Dv, Dv) sum over tokens of v v^T; empty when Dv = 0
  // Of the weights, not of the text: how the model weighs an error of v.
  std::vector<double> output;  // (H, Dv, Dv) sum over the group's query heads of W_o,g^T W_o,g; may be empty
};

/// What `energy` writes and `allocate` reads. Token counts: chunk c holds chunk_tokens[c] tokens.
struct Stats {
  AttentionShape shape;
  int64_t first_chunk = 0;            // absolute number of the first chunk here
  std::vector<int64_t> chunk_tokens;  // (n_chunks)
  std::vector<LayerStats> layers;
  std::string signature;  // everything but the chunk range that the numbers depend on
  Provenance provenance;

  int64_t n_chunks() const { return int64_t(chunk_tokens.size()); }
  int64_t n_tokens() const;
};

/// Adds one chunk of one layer. q (T, Hq, D), k (T, H, D), v (T, H, Dv) or null.
/// Query head g belongs to KV head g / group. Exit::nonfinite names the first NaN or infinity.
/// Chunks of one layer must come in order; layers may come one after the other or interleaved.
void accumulate(Stats& stats, int layer, int64_t chunk, int64_t n_tokens, const float* q, const float* k,
                const float* v);

/// The label-free block energy s_i = (E|q^(i)|^2 + E|k^(i)|^2) / 2 of one KV head, (B); every query head of
/// the group is a sample of its own.
std::vector<double> block_energy(const Stats& stats, int layer, int kv_head);

/// Whether the statistics know W_o.
bool has_output(const Stats& stats);

/// Appends neighbours into one; Exit::input on a foreign signature, overlap or gap (names[i] is for
/// messages).
Stats merge(std::vector<Stats> parts, const std::vector<std::string>& names);

}  // namespace blockgtq
