#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "quant/attention_shape.h"

namespace blockgtq {

/// A sum over chunks that does not depend on how the chunks were cut into parts. It keeps a partial sum per
/// dyadic interval of absolute chunk numbers and adds these in the order of that tree. So merging is exact to
/// the last bit.
class DyadicSum {
 public:
  struct Node {
    int64_t first, count;       // chunks [first, first + count); count is a power of two and divides first
    std::vector<double> value;  // (size)
  };
  void add_chunk(int64_t chunk, std::vector<double> value);  // in ascending order, without gaps
  void append(const DyadicSum& next);                        // next begins where this one ends
  std::vector<double> total() const;                         // (size), adds the nodes from left to right
  const std::vector<Node>& nodes() const { return nodes_; }
  void set_nodes(std::vector<Node> nodes) { nodes_ = std::move(nodes); }

 private:
  void collapse();
  std::vector<Node> nodes_;  // ascending, as large as possible
};

/// One layer's calibration statistics in float64: sums, never means. Shapes as in AttentionShape.
struct LayerStats {
  // Sums per chunk, for intervals and for exact merging.
  std::vector<double> q2;     // (n_chunks, H, B) sum over tokens and the group's query heads of |q^(i)|^2
  std::vector<double> k2;     // (n_chunks, H, B) sum over tokens of |k^(i)|^2
  std::vector<double> k_sum;  // (n_chunks, H, D) sum over tokens of k
  std::vector<double> v_sum;  // (n_chunks, H, Dv)
  DyadicSum kk;               // (H, D, D) sum over tokens of k k^T; empty in files of older versions
  DyadicSum vv;               // (H, Dv, Dv) sum over tokens of v v^T; empty when Dv = 0
  // A sample of keys and values, rounded to fp16, in which centres are found; sample_of() says which tokens
  // of a chunk. Empty where the length of the run is not known, and in older files.
  std::vector<float> k_sample;  // (n_sample, H, D)
  std::vector<float> v_sample;  // (n_sample, H, Dv)
  // How the model weighs an error of v. It depends on the weights, not on the text.
  std::vector<double> output;  // (H, Dv, Dv) sum over the group's query heads of W_o,g^T W_o,g; may be empty
};

/// What `energy` writes and `allocate` reads: the statistics of a run, or of a part of it.
struct Stats {
  AttentionShape shape;
  int64_t first_chunk = 0;            // absolute number of the first chunk here
  int64_t run_chunks = 0;             // chunks of the whole run, which first_chunk counts among; 0: not known
  int64_t n_parts = 0;                // equal ranges that the run was cut into; 1: not cut; 0: not known
  std::vector<int64_t> chunk_tokens;  // (n_chunks) tokens of each chunk
  std::vector<LayerStats> layers;
  std::string signature;  // of all that the numbers depend on, but for the chunk range
  Provenance provenance;

  int64_t n_chunks() const { return int64_t(chunk_tokens.size()); }
  int64_t n_tokens() const;
};

/// Which tokens of a chunk go into the sample: 0, step, 2 step, ..., n in all. Over a whole run these are
/// sample_tokens() tokens, if it has as many, however the run is cut into parts.
struct Sample {
  int64_t n, step;
};
Sample sample_of(const AttentionShape& shape, int64_t chunk, int64_t chunk_tokens, int64_t run_chunks);
/// Tokens of a whole run's sample: as many as a GiB holds for this model, at least 4096, at most
/// kMostSampleTokens.
int64_t sample_tokens(const AttentionShape& shape);
inline constexpr int64_t kMostSampleTokens = 16384;
/// Appends numbers to a vector.
template <class T>
void append(std::vector<T>& to, std::span<const std::type_identity_t<T>> from) {
  to.insert(to.end(), from.begin(), from.end());
}
/// Appends n numbers of a sample, rounded to fp16 (saturating).
void append_sample(std::vector<float>& to, const float* from, int64_t n);

/// Adds one chunk of one layer, except its first `from` tokens. q (T, Hq, D), k (T, H, D), v (T, H, Dv) or
/// null. Query head g belongs to KV head g / group. Chunks of one layer must come in order; layers may come
/// one after the other or interleaved.
/// Exit::nonfinite names the first NaN or infinity by layer, projection and token.
void accumulate(Stats& stats, int layer, int64_t chunk, int64_t n_tokens, const float* q, const float* k,
                const float* v, int64_t from = 0);

/// check()s that every array has the size that shape and chunks say.
void check_sizes(const Stats& stats);

/// The label-free block energy s_i = (E|q^(i)|^2 + E|k^(i)|^2) / 2 of one KV head, (B). Every query head of
/// the group is a sample of its own.
std::vector<double> block_energy(const Stats& stats, int layer, int kv_head);

/// The chunks [first, end) of part `part` of a run of n_chunks, where part is 1 to n_parts.
struct ChunkRange {
  int64_t first, end;
};
ChunkRange part_chunks(int64_t part, int64_t n_parts, int64_t n_chunks);

/// Which of the run's n_parts these statistics are, from 1; 0 where they are none of them.
int64_t part_number(const Stats& stats);

/// The chunks of the run that are missing, in words: "chunks 7 to 9 of 10 (part 4 of 4)". Empty where none is
/// known to be missing.
std::string missing_chunks(const Stats& stats);

/// Exit::input "NAME: incomplete statistics: ... missing" where missing_chunks() names some.
void require_complete(const Stats& stats, const std::string& name, const std::string& hint);

/// Merges neighbouring parts. Chunks that are missing before the first or behind the last part stay missing.
/// names[i] is the file of parts[i], for messages. Exit::input where signatures differ, or parts overlap or
/// leave a gap.
Stats merge(std::vector<Stats> parts, const std::vector<std::string>& names);

}  // namespace blockgtq
