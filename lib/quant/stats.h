#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
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
  // some keys and values as they are, rounded to fp16, for centres: sample_of() every chunk; empty where the
  // length of the run is not known, and in older files
  std::vector<float> k_sample;  // (n_sample, H, D)
  std::vector<float> v_sample;  // (n_sample, H, Dv)
  // Of the weights, not of the text: how the model weighs an error of v.
  std::vector<double> output;  // (H, Dv, Dv) sum over the group's query heads of W_o,g^T W_o,g; may be empty
};

/// What `energy` writes and `allocate` reads. Token counts: chunk c counts chunk_tokens[c] tokens.
struct Stats {
  AttentionShape shape;
  int64_t first_chunk = 0;            // absolute number of the first chunk here
  int64_t run_chunks = 0;             // of the whole run, first_chunk counts among them; 0: not known
  int64_t n_parts = 0;                // equal ranges that the run was cut into; 1: none; 0: not known
  std::vector<int64_t> chunk_tokens;  // (n_chunks)
  std::vector<LayerStats> layers;
  std::string signature;  // everything but the chunk range that the numbers depend on
  Provenance provenance;

  int64_t n_chunks() const { return int64_t(chunk_tokens.size()); }
  int64_t n_tokens() const;
};

/// Tokens 0, step, 2 step, ... of a chunk, n in all: together sample_tokens() of a whole run that has as
/// many, however it is cut into parts.
struct Sample {
  int64_t n, step;
};
Sample sample_of(const AttentionShape& shape, int64_t chunk, int64_t chunk_tokens, int64_t run_chunks);
/// As many as a GiB of a model's statistics holds, but 4096 at least and no more than 16,384.
int64_t sample_tokens(const AttentionShape& shape);
inline constexpr int64_t kMostSampleTokens = 16384;
/// Numbers behind those that are there.
template <class T>
void append(std::vector<T>& to, std::span<const std::type_identity_t<T>> from) {
  to.insert(to.end(), from.begin(), from.end());
}
/// n numbers of a sample, rounded to fp16 (saturating).
void append_sample(std::vector<float>& to, const float* from, int64_t n);

/// Adds one chunk of one layer but for its first `from` tokens. q (T, Hq, D), k (T, H, D), v (T, H, Dv) or
/// null. Query head g belongs to KV head g / group. Exit::nonfinite names the first NaN or infinity.
/// Chunks of one layer must come in order; layers may come one after the other or interleaved.
void accumulate(Stats& stats, int layer, int64_t chunk, int64_t n_tokens, const float* q, const float* k,
                const float* v, int64_t from = 0);

/// A defect unless every array has the size that shape and chunks say.
void check_sizes(const Stats& stats);

/// The label-free block energy s_i = (E|q^(i)|^2 + E|k^(i)|^2) / 2 of one KV head, (B); every query head of
/// the group is a sample of its own.
std::vector<double> block_energy(const Stats& stats, int layer, int kv_head);

/// Part `part` of `n_parts` (1 to n_parts) of a run of n_chunks: chunks [first, end).
struct ChunkRange {
  int64_t first, end;
};
ChunkRange part_chunks(int64_t part, int64_t n_parts, int64_t n_chunks);

/// Which of the run's n_parts this is, from 1; 0 where it is none of them.
int64_t part_number(const Stats& stats);

/// What of the run is not here, in words: "chunks 7 to 9 of 10 (part 4 of 4)"; empty where nothing is known
/// to be missing.
std::string missing_chunks(const Stats& stats);

/// Exit::input "NAME: incomplete statistics: ... missing" unless the whole run is here, as far as is known.
void require_complete(const Stats& stats, const std::string& name, const std::string& hint);

/// Appends neighbours into one; Exit::input on a foreign signature, overlap or gap inside (names[i] is for
/// messages). What is missing before the first or behind the last stays missing.
Stats merge(std::vector<Stats> parts, const std::vector<std::string>& names);

}  // namespace blockgtq
