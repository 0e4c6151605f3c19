#include "quant/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/float16.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr float kLargestHalf = 65504;

// One KV head's sums over one chunk.
struct HeadSums {
  std::vector<double> q2, k2;  // (B)
  std::vector<double> k_sum;   // (D)
  std::vector<double> kk;      // (D, D)
  std::vector<double> v_sum;   // (Dv)
  std::vector<double> vv;      // (Dv, Dv)
};

// squares[j] += x[j]^2
void add_squares(const float* x, std::vector<double>& squares) {
  for (size_t j = 0; j < squares.size(); ++j) squares[j] += double(x[j]) * x[j];
}
void add(const float* x, std::vector<double>& sums) {
  for (size_t j = 0; j < sums.size(); ++j) sums[j] += x[j];
}

// (D) per coordinate -> (B) per block
std::vector<double> fold(const BlockLayout& layout, const std::vector<double>& squares) {
  std::vector<double> blocks(layout.n_blocks());
  for (int b = 0; b < layout.n_blocks(); ++b) {
    const auto [i, j] = layout.coords(b);
    blocks[b] = squares[i] + squares[j];
  }
  return blocks;
}

// The sum over tokens of v v^T, v (n, d) -> (d, d). It goes row by row over the lower triangle, with tokens
// in ascending order. So every entry is one chain, and the compiler vectorizes over neighbouring entries.
std::vector<double> second_moment(const std::vector<double>& v, int64_t n, int d) {
  std::vector<double> sum(size_t(d) * d);
  for (int i = 0; i < d; ++i) {
    double* row = &sum[size_t(i) * d];
    int64_t t = 0;
    for (; t + 4 <= n; t += 4) {  // four tokens per pass over the row save its loads and stores
      const double *a = &v[size_t(t) * d], *b = a + d, *c = b + d, *e = c + d;
      for (int j = 0; j <= i; ++j) row[j] = row[j] + a[i] * a[j] + b[i] * b[j] + c[i] * c[j] + e[i] * e[j];
    }
    for (; t < n; ++t) {
      const double* a = &v[size_t(t) * d];
      for (int j = 0; j <= i; ++j) row[j] += a[i] * a[j];
    }
    for (int j = 0; j < i; ++j) sum[size_t(j) * d + i] = row[j];
  }
  return sum;
}

HeadSums sum_head(const AttentionShape& shape, int h, int64_t n, const float* q, const float* k,
                  const float* v) {
  const int d = shape.layout.head_dim, dv = shape.v_dim, group = shape.group();
  const int64_t q_stride = int64_t(shape.n_heads) * d, k_stride = int64_t(shape.n_kv_heads) * d,
                v_stride = int64_t(shape.n_kv_heads) * dv;
  HeadSums s;
  std::vector<double> q_squares(d), k_squares(d);
  s.k_sum.resize(d);
  std::vector<double> keys(size_t(n) * d);
  for (int64_t t = 0; t < n; ++t) {
    for (int g = 0; g < group; ++g) add_squares(q + t * q_stride + int64_t(h * group + g) * d, q_squares);
    add_squares(k + t * k_stride + int64_t(h) * d, k_squares);
    add(k + t * k_stride + int64_t(h) * d, s.k_sum);
    std::copy_n(k + t * k_stride + int64_t(h) * d, d, &keys[size_t(t) * d]);
  }
  s.q2 = fold(shape.layout, q_squares);
  s.k2 = fold(shape.layout, k_squares);
  s.kk = second_moment(keys, n, d);
  if (dv == 0) return s;

  s.v_sum.resize(dv);
  std::vector<double> values(size_t(n) * dv);
  for (int64_t t = 0; t < n; ++t) {
    const float* row = v + t * v_stride + int64_t(h) * dv;
    add(row, s.v_sum);
    std::copy_n(row, dv, &values[size_t(t) * dv]);
  }
  s.vv = second_moment(values, n, dv);
  return s;
}

// Squares of floats cannot overflow in double, so a sum of squares is finite exactly where all its terms are.
// A sum of values is not finite where any of them is not.
bool finite(const std::vector<HeadSums>& heads) {
  const auto all = [](const std::vector<double>& x) {
    return std::all_of(x.begin(), x.end(), [](double y) { return std::isfinite(y); });
  };
  return std::all_of(heads.begin(), heads.end(),
                     [&](const HeadSums& s) { return all(s.q2) && all(s.k2) && all(s.v_sum); });
}

[[noreturn]] void fail_nonfinite(const AttentionShape& shape, int layer, int64_t first_token, int64_t n,
                                 const float* q, const float* k, const float* v) {
  struct Input {
    const char* name;
    const float* x;
    int64_t width;
  };
  const int64_t d = shape.layout.head_dim;
  const Input inputs[] = {{"q_proj", q, shape.n_heads * d},
                          {"k_proj", k, shape.n_kv_heads * d},
                          {"v_proj", v, v ? int64_t(shape.n_kv_heads) * shape.v_dim : 0}};
  for (const Input& in : inputs)
    for (int64_t i = 0; i < n * in.width; ++i)
      if (!std::isfinite(in.x[i]))
        throw Error(Exit::nonfinite, fmt::format("layer {}: {} output: token {}: not finite", layer, in.name,
                                                 first_token + i / in.width));
  throw std::logic_error("statistics: sums are not finite though every input is");
}

}  // namespace

void check_sizes(const Stats& stats) {
  const AttentionShape& s = stats.shape;
  const size_t n = size_t(stats.n_chunks()) * s.n_kv_heads;
  check(stats.layers.size() == size_t(s.n_layers), "Stats: layers of another number");
  for (const LayerStats& layer : stats.layers) {
    check(layer.q2.size() == n * s.layout.n_blocks() && layer.k2.size() == layer.q2.size(),
          "Stats: block sums of another size");
    check(layer.k_sum.size() == n * s.layout.head_dim && layer.v_sum.size() == n * s.v_dim,
          "Stats: sums of another size");
    const size_t k_row = size_t(s.n_kv_heads) * s.layout.head_dim, v_row = size_t(s.n_kv_heads) * s.v_dim;
    check(
        layer.k_sample.size() % k_row == 0 && layer.v_sample.size() == layer.k_sample.size() / k_row * v_row,
        "Stats: samples of another size");
    check(layer.output.empty() || layer.output.size() == size_t(s.n_kv_heads) * s.v_dim * s.v_dim,
          "Stats: weights of another size");
  }
}

int64_t Stats::n_tokens() const {
  return std::accumulate(chunk_tokens.begin(), chunk_tokens.end(), int64_t(0));
}

void accumulate(Stats& stats, int layer, int64_t chunk, int64_t n_tokens, const float* q, const float* k,
                const float* v, int64_t from) {
  const AttentionShape& shape = stats.shape;
  check(layer >= 0 && layer < shape.n_layers, "accumulate: no such layer");
  check(from >= 0 && n_tokens > from, "accumulate: a chunk without tokens");
  check(v != nullptr || shape.v_dim == 0, "accumulate: values missing");
  check(shape.n_kv_heads > 0 && shape.n_heads % shape.n_kv_heads == 0,
        "accumulate: KV heads do not divide query heads");
  const int64_t n_skipped_heads = from * shape.n_kv_heads;
  q += from * shape.n_heads * shape.layout.head_dim;
  k += n_skipped_heads * shape.layout.head_dim;
  if (v) v += n_skipped_heads * shape.v_dim;
  n_tokens -= from;
  if (stats.layers.empty()) stats.layers.resize(shape.n_layers);
  LayerStats& to = stats.layers.at(layer);

  const size_t per_chunk = size_t(shape.n_kv_heads) * shape.layout.n_blocks();
  const int64_t index = int64_t(to.q2.size() / per_chunk);
  check(chunk == stats.first_chunk + index, "accumulate: chunk out of order");
  check(index == stats.n_chunks() || stats.chunk_tokens[index] == n_tokens,
        "accumulate: the chunk has another length than in another layer");

  std::vector<HeadSums> heads(shape.n_kv_heads);
  parallel_for(heads.size(), [&](size_t h) { heads[h] = sum_head(shape, int(h), n_tokens, q, k, v); });
  if (!finite(heads)) {
    const int64_t before =
        std::accumulate(stats.chunk_tokens.begin(), stats.chunk_tokens.begin() + index, (index + 1) * from);
    fail_nonfinite(shape, layer, before, n_tokens, q, k, v);
  }

  const int64_t k_width = int64_t(shape.n_kv_heads) * shape.layout.head_dim,
                v_width = int64_t(shape.n_kv_heads) * shape.v_dim;
  const Sample sample = sample_of(shape, chunk, n_tokens, stats.run_chunks);
  for (int64_t i = 0; i < sample.n; ++i) {
    append_sample(to.k_sample, k + i * sample.step * k_width, k_width);
    if (v) append_sample(to.v_sample, v + i * sample.step * v_width, v_width);
  }
  std::vector<double> kk, vv;
  for (const HeadSums& s : heads) {
    append(to.q2, s.q2);
    append(to.k2, s.k2);
    append(to.k_sum, s.k_sum);
    append(to.v_sum, s.v_sum);
    append(kk, s.kk);
    append(vv, s.vv);
  }
  to.kk.add_chunk(chunk, std::move(kk));
  if (shape.v_dim > 0) to.vv.add_chunk(chunk, std::move(vv));
  if (index == stats.n_chunks()) stats.chunk_tokens.push_back(n_tokens);
}

int64_t sample_tokens(const AttentionShape& shape) {
  const int64_t numbers = int64_t(shape.n_kv_heads) * (shape.layout.head_dim + shape.v_dim) * shape.n_layers;
  constexpr int64_t kRoom = (int64_t(1) << 30) / sizeof(float);
  return std::clamp<int64_t>(kRoom / numbers, 4096, kMostSampleTokens);
}

Sample sample_of(const AttentionShape& shape, int64_t chunk, int64_t chunk_tokens, int64_t run_chunks) {
  if (run_chunks == 0) return {0, 1};
  const int64_t all = sample_tokens(shape);
  const int64_t share = (chunk + 1) * all / run_chunks - chunk * all / run_chunks;
  const int64_t n = std::min(chunk_tokens, share);
  return {n, n > 0 ? chunk_tokens / n : 1};
}

void append_sample(std::vector<float>& to, const float* from, int64_t n) {
  constexpr int64_t kPiece = 1 << 15;
  const size_t before = to.size();
  to.resize(before + size_t(n));
  parallel_for(size_t((n + kPiece - 1) / kPiece), [&](size_t piece) {
    const int64_t first = int64_t(piece) * kPiece, end = std::min(n, first + kPiece);
    for (int64_t i = first; i < end; ++i)
      to[before + size_t(i)] = from_half(to_half(std::clamp(from[i], -kLargestHalf, kLargestHalf)));
  });
}

std::vector<double> block_energy(const Stats& stats, int layer, int kv_head) {
  check_sizes(stats);
  check(layer >= 0 && layer < stats.shape.n_layers && kv_head >= 0 && kv_head < stats.shape.n_kv_heads,
        "block_energy: no such layer or KV head");
  const double n_keys = double(stats.n_tokens());
  check(n_keys > 0, "block_energy: statistics without tokens");
  const double n_queries = n_keys * stats.shape.group();
  const LayerStats& s = stats.layers[layer];
  const int n_blocks = stats.shape.layout.n_blocks();
  std::vector<double> q2(n_blocks), k2(n_blocks), energy(n_blocks);
  for (int64_t c = 0; c < stats.n_chunks(); ++c)
    for (int b = 0; b < n_blocks; ++b) {
      const size_t at = (size_t(c) * stats.shape.n_kv_heads + kv_head) * n_blocks + b;
      q2[b] += s.q2[at];
      k2[b] += s.k2[at];
    }
  for (int b = 0; b < n_blocks; ++b) energy[b] = 0.5 * (q2[b] / n_queries + k2[b] / n_keys);
  return energy;
}

}  // namespace blockgtq
