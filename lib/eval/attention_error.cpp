#include "eval/attention_error.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/fast_exp.h"
#include "base/parallel.h"
#include "quant/product.h"

namespace blockgtq {
namespace {

constexpr int64_t kTilePositions = 64;    // queries of a tile, times the group
constexpr int64_t kTileLogits = 1 << 21;  // the most logits of a tile, where chunks are long
constexpr int64_t kRotatedAtOnce = 256;   // keys that are rotated in one piece
constexpr int kLanes = 16;                // sums have kLanes chains, added in order, so that loops vectorize

template <class T>
double total(const std::array<T, kLanes>& lanes) {
  double sum = 0;
  for (const T lane : lanes) sum += double(lane);
  return sum;
}

float largest(const float* x, int64_t n) {
  std::array<float, kLanes> lanes;
  lanes.fill(x[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

/// The normalizer of a softmax over x: log Z = max + log sum, where sum is over exp(x - max).
struct Normalizer {
  double max = 0, sum = 1;
};

/// p = softmax(x) of the first n of n_keys entries, and 0 for the rest. x and p may be the same memory.
Normalizer softmax(const float* x, int64_t n, int64_t n_keys, float* p) {
  const float max = largest(x, n);
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::array<float, kLanes> e;
    for (int j = 0; j < kLanes; ++j) e[j] = fast_exp(x[i + j] - max);
    for (int j = 0; j < kLanes; ++j) p[i + j] = e[j];
    for (int j = 0; j < kLanes; ++j) lanes[j] += double(e[j]);
  }
  for (; i < n; ++i) lanes[0] += double(p[i] = fast_exp(x[i] - max));
  const double sum = total(lanes);
  const float inverse = float(1 / sum);
  for (i = 0; i < n; ++i) p[i] *= inverse;
  std::fill(p + n, p + n_keys, 0.0f);
  return {double(max), sum};
}

/// Indices of the kTopK largest of n > kTopK values, in no particular order; of equal values the first ones.
using TopK = std::array<int, kTopK>;
TopK top_k(const float* x, int64_t n) {
  TopK index;  // descending values
  std::array<float, kTopK> value;
  int held = 0;
  auto offer = [&](int i) {
    if (held == kTopK && !(x[i] > value[kTopK - 1])) return;
    int at = held < kTopK ? held++ : kTopK - 1;
    for (; at > 0 && x[i] > value[at - 1]; --at) value[at] = value[at - 1], index[at] = index[at - 1];
    value[at] = x[i];
    index[at] = i;
  };
  int64_t i = 0;
  for (; i < kTopK; ++i) offer(int(i));
  for (; i + kLanes <= n; i += kLanes) {  // most runs of lanes hold none of them
    int larger = 0;
    for (int j = 0; j < kLanes; ++j) larger += x[i + j] > value[kTopK - 1];
    if (larger)
      for (int j = 0; j < kLanes; ++j) offer(int(i) + j);
  }
  for (; i < n; ++i) offer(int(i));
  return index;
}

/// The share of the exact top keys that are among the kTopK largest restored logits: fewer than kTopK of the
/// n exceed them.
double kept_share(const TopK& exact, const float* restored, int64_t n) {
  int kept = 0;
  for (const int i : exact) {
    const float value = restored[i];
    int larger = 0;
    for (int64_t j = 0; j < n; ++j) larger += restored[j] > value;
    kept += larger < kTopK;
  }
  return double(kept) / kTopK;
}

/// Turns the errors d into restored logits l^ = l - d. Returns sum p |d|, and sum p (l - l^) after rounding:
/// the two softmaxes see that difference, not d.
std::pair<double, double> restore_logits(const float* l, const float* p, int64_t n, float* d) {
  std::array<double, kLanes> weighted{}, drift{};
  auto one = [&](int64_t i, int lane) {
    const float restored = l[i] - d[i];
    weighted[lane] += double(p[i] * std::abs(d[i]));
    drift[lane] += double(p[i] * (l[i] - restored));
    d[i] = restored;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) one(i + j, j);
  for (; i < n; ++i) one(i, 0);
  return {total(weighted), total(drift)};
}

void add(ChunkSum& to, double value) {
  to.sum += value;
  to.count += 1;
}

}  // namespace

const ChunkSum& AttentionSums::of(Metric metric) const {
  check(needs_attention(metric), "AttentionSums: a metric without positions");
  return metric == Metric::weighted ? weighted
         : metric == Metric::kl     ? kl
         : metric == Metric::topk   ? topk
                                    : output;
}

AttentionSums& AttentionSums::operator+=(const AttentionSums& other) {
  for (ChunkSum AttentionSums::*m : {&AttentionSums::weighted, &AttentionSums::kl, &AttentionSums::topk,
                                     &AttentionSums::output, &AttentionSums::sink}) {
    (this->*m).sum += (other.*m).sum;
    (this->*m).count += (other.*m).count;
  }
  return *this;
}

/// Queries [first, first + n) of the chunk that begins at token `start`. Each sees the chunk's keys up to its
/// own, or those of its window.
struct AttentionError::Tile {
  int64_t chunk, start, first, n;
  const float* keys;              // (T, D) rotated
  std::span<const float> errors;  // (n_restored, T, D) rotated k - k^
  const float* values;            // (T, Dv) or null
  std::span<const std::vector<float>>
      value_errors;  // (n_restored, (T, Dv)) v - v^, or empty where values are exact
};

AttentionError::AttentionError(const RealAttention& attention, int64_t chunk, int64_t recent)
    : attention_(attention), chunk_(chunk), recent_(recent) {
  const int n = attention.layout.n_rotary();
  check(attention.inv_freq.size() == size_t(n), "AttentionError: frequencies of another number of blocks");
  check(chunk > 0, "AttentionError: chunks without tokens");
  for (int b = 0; b < n; ++b) coords_.push_back(attention.layout.coords(b));
  turns_.resize(chunk * n * 2);
  for (int64_t t = 0; t < chunk; ++t)
    for (int b = 0; b < n; ++b) {
      const double angle = double(t) * attention.inv_freq[b];
      turns_[(t * n + b) * 2] = float(std::cos(angle) * attention.attention_factor);
      turns_[(t * n + b) * 2 + 1] = float(std::sin(angle) * attention.attention_factor);
    }
}

void AttentionError::rotate(int64_t position, float* x) const {
  const float* turn = turns_.data() + position * 2 * int64_t(coords_.size());
  for (const auto& [a, b] : coords_) {
    const float c = turn[0], s = turn[1], first = x[a], second = x[b];
    x[a] = first * c - second * s;
    x[b] = second * c + first * s;
    turn += 2;
  }
}

void AttentionError::score_tile(const HeadActivations& head, const Tile& tile,
                                std::span<AttentionSums> sums) const {
  const int64_t dim = attention_.layout.head_dim, v_dim = head.v_dim, group = head.group;
  const int64_t n_rows = tile.n * group, n_keys = tile.first + tile.n;
  const float scale = float(attention_.scale != 0 ? attention_.scale : 1 / std::sqrt(double(dim)));
  thread_local std::vector<float> queries, logits, p, restored, o, restored_o, lost_o;
  auto take = [](std::vector<float>& buffer, int64_t n) {
    if (buffer.size() < size_t(n)) buffer.resize(n);
    return buffer.data();
  };
  float* q = take(queries, n_rows * dim);    // (n_rows, D): head g of query i is row i * G + g
  float* l = take(logits, n_rows * n_keys);  // (n_rows, n_keys), exact; p has the same shape
  float* softmaxes = take(p, n_rows * n_keys);
  float* l_hat = take(restored, n_rows * n_keys);  // logit errors, then restored logits, then their softmax
  for (int64_t i = 0; i < tile.n; ++i)
    for (int64_t g = 0; g < group; ++g) {
      float* row = q + (i * group + g) * dim;
      const float* from = head.q + (tile.start + tile.first + i) * head.q_stride + g * dim;
      for (int64_t j = 0; j < dim; ++j) row[j] = from[j] * scale;
      rotate(tile.first + i, row);
    }
  multiply_transposed(q, n_rows, int(dim), tile.keys + tile.start * dim, int(n_keys), l);
  std::vector<Normalizer> normalizers(n_rows);
  std::vector<TopK> tops(n_rows);
  // Row r sees keys [first(r), first(r) + visible(r)).
  auto first = [&](int64_t row) {
    return attention_.window > 0 ? std::max<int64_t>(0, tile.first + row / group + 1 - attention_.window) : 0;
  };
  auto visible = [&](int64_t row) { return tile.first + row / group + 1 - first(row); };
  auto recent = [&](int64_t row) { return std::min(recent_, visible(row)); };  // the last of these
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* row = l + r * n_keys + first(r);
    float* weights = softmaxes + r * n_keys;
    normalizers[r] = softmax(row, visible(r), n_keys - first(r), weights + first(r));
    std::fill(weights, weights + first(r), 0.0f);
    if (visible(r) > kTopK) tops[r] = top_k(row, visible(r));
  }
  if (tile.values)
    multiply(softmaxes, n_rows, int(n_keys), tile.values + tile.start * v_dim, int(v_dim),
             take(o, n_rows * v_dim));

  for (size_t m = 0; m < sums.size(); ++m) {
    AttentionSums& sum = sums[m];
    const float* error = tile.errors.data() + (int64_t(m) * head.n_tokens + tile.start) * dim;
    multiply_transposed(q, n_rows, int(dim), error, int(n_keys), l_hat);
    for (int64_t r = 0; r < n_rows; ++r) {
      const int64_t n = visible(r), seen = r * n_keys + first(r);
      float* row = l_hat + seen;
      std::fill(row + n - recent(r), row + n, 0.0f);
      const auto [weighted, drift] = restore_logits(l + seen, softmaxes + seen, n, row);
      add(sum.weighted, weighted);
      if (first(r) == 0 && n > kSinkPositions)
        add(sum.sink, std::accumulate(softmaxes + seen, softmaxes + seen + kSinkPositions, 0.0));
      if (n > kTopK) add(sum.topk, kept_share(tops[r], row, n));
      const Normalizer z = softmax(row, n, n_keys - first(r), row);
      std::fill(l_hat + r * n_keys, row, 0.0f);
      // KL = sum p (l - l^) + log Z^ - log Z. Rounding may make it slightly negative.
      add(sum.kl, std::max(0.0, drift + (z.max - normalizers[r].max) + std::log(z.sum / normalizers[r].sum)));
    }
    if (!tile.values) continue;
    float* o_hat = take(restored_o, n_rows * v_dim);  // (n_rows, Dv)
    multiply(l_hat, n_rows, int(n_keys), tile.values + tile.start * v_dim, int(v_dim), o_hat);
    if (!tile.value_errors[m].empty()) {
      for (int64_t r = 0; r < n_rows; ++r) {
        float* end = l_hat + r * n_keys + first(r) + visible(r);
        std::fill(end - recent(r), end, 0.0f);
      }
      float* lost = take(lost_o, n_rows * v_dim);
      multiply(l_hat, n_rows, int(n_keys), tile.value_errors[m].data() + tile.start * v_dim, int(v_dim),
               lost);
      for (int64_t i = 0; i < n_rows * v_dim; ++i) o_hat[i] -= lost[i];
    }
    for (int64_t r = 0; r < n_rows; ++r) {
      double size = 0, difference = 0;
      for (int64_t j = r * v_dim; j < (r + 1) * v_dim; ++j) {
        size += double(o[j]) * double(o[j]);
        difference += double(o[j] - o_hat[j]) * double(o[j] - o_hat[j]);
      }
      if (size > 0) add(sum.output, std::sqrt(difference / size));
    }
  }
}

std::vector<std::vector<AttentionSums>> AttentionError::score(const HeadActivations& head,
                                                              std::span<const Restored> restored) const {
  const int64_t dim = attention_.layout.head_dim, n_tokens = head.n_tokens;
  const int64_t n_chunks = (n_tokens + chunk_ - 1) / chunk_;
  std::vector<float> keys(n_tokens * dim), errors(restored.size() * n_tokens * dim), values;
  const int64_t n_pieces = (n_tokens + kRotatedAtOnce - 1) / kRotatedAtOnce;
  parallel_for(size_t(n_pieces) * (restored.size() + 1), [&](size_t piece) {
    const int64_t from = int64_t(piece) % n_pieces * kRotatedAtOnce, m = int64_t(piece) / n_pieces - 1;
    for (int64_t t = from; t < std::min(n_tokens, from + kRotatedAtOnce); ++t) {
      const float* k = head.k + t * head.k_stride;
      float* to = m < 0 ? keys.data() + t * dim : errors.data() + (m * n_tokens + t) * dim;
      std::copy_n(k, dim, to);
      if (m >= 0)
        for (int64_t j = 0; j < dim; ++j) to[j] -= restored[m].k[t * dim + j];
      rotate(t % chunk_, to);
    }
  });
  std::vector<std::vector<float>> value_errors(restored.size());
  if (head.v) {
    values.resize(n_tokens * head.v_dim);
    for (int64_t t = 0; t < n_tokens; ++t)
      std::copy_n(head.v + t * head.v_stride, head.v_dim, values.data() + t * head.v_dim);
    for (size_t m = 0; m < restored.size(); ++m) {
      if (!restored[m].v) continue;
      value_errors[m] = values;
      for (size_t i = 0; i < values.size(); ++i) value_errors[m][i] -= restored[m].v[i];
    }
  }

  // With more keys per query a tile has fewer queries. That depends on sizes only, never on threads.
  const int64_t positions = std::clamp(kTileLogits / (int64_t(head.group) * std::min(chunk_, n_tokens)),
                                       int64_t(1), kTilePositions);
  std::vector<Tile> tiles;
  for (int64_t c = 0; c < n_chunks; ++c) {
    const int64_t start = c * chunk_, length = std::min(chunk_, n_tokens - start);
    for (int64_t first = 0; first < length; first += positions)
      tiles.push_back({c, start, first, std::min(positions, length - first), keys.data(), errors,
                       head.v ? values.data() : nullptr, value_errors});
  }
  std::vector<AttentionSums> of_tile(tiles.size() * restored.size());  // (n_tiles, n_restored)
  parallel_for(tiles.size(), [&](size_t i) {
    score_tile(head, tiles[i], std::span(of_tile).subspan(i * restored.size(), restored.size()));
  });
  std::vector<std::vector<AttentionSums>> sums(restored.size(), std::vector<AttentionSums>(n_chunks));
  for (size_t i = 0; i < tiles.size(); ++i)
    for (size_t m = 0; m < restored.size(); ++m) sums[m][tiles[i].chunk] += of_tile[i * restored.size() + m];
  return sums;
}

}  // namespace blockgtq
