#include "model/attention.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "model/elementwise.h"
#include "model/share.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

constexpr int64_t kQueryTile = 66;
constexpr double kFlopsPerNanosecond = 50;  // of one thread, a rough estimate

int64_t whole_panels(int64_t keys) {
  return keys / kPanel * kPanel;
}

/// Keys and values of every chunk and KV head, packed for multiply_packed(). They begin at key `first` of a
/// chunk, a multiple of kPanel.
class PackedHeads {
 public:
  PackedHeads(const AttentionProblem& p, const Heads& k, const Heads& v, int64_t first)
      : p_(p),
        first_(first),
        n_kv_((p.n_heads + p.group - 1) / p.group),
        k_dim_(k.dim),
        k_floats_(packed_floats(k.dim, n_keys(0))),
        v_floats_(packed_floats(n_keys(0), v.dim)) {
    const int64_t heads = (p.n_tokens + p.chunk - 1) / p.chunk * n_kv_;
    k_ = std::make_unique_for_overwrite<float[]>(size_t(heads * k_floats_));
    v_ = std::make_unique_for_overwrite<float[]>(size_t(heads * v_floats_));
    share(size_t(heads), double(heads * n_keys(0) * (k.dim + v.dim)) / 5, [&](size_t i) {
      const int64_t chunk = int64_t(i) / n_kv_, head = int64_t(i) % n_kv_, row = chunk * p.chunk + first;
      pack_transposed(k.data + row * k.stride + head * k.head_stride, k.stride, k.dim, n_keys(chunk),
                      k_.get() + int64_t(i) * k_floats_);
      pack(v.data + row * v.stride + head * v.head_stride, v.stride, n_keys(chunk), v.dim,
           v_.get() + int64_t(i) * v_floats_);
    });
  }

  /// Panels of (dim, keys) that begin at `key`, a multiple of kPanel.
  const float* keys(int64_t chunk, int64_t kv_head, int64_t key) const {
    return k_.get() + (chunk * n_kv_ + kv_head) * k_floats_ + (key - first_) * k_dim_;
  }
  /// Panels of (keys, v.dim) that begin at `key`, value_stride() apart.
  const float* values(int64_t chunk, int64_t kv_head, int64_t key) const {
    return v_.get() + (chunk * n_kv_ + kv_head) * v_floats_ + (key - first_) * kPanel;
  }
  int64_t value_stride(int64_t chunk) const { return n_keys(chunk) * kPanel; }

 private:
  int64_t n_keys(int64_t chunk) const {
    return p_.past + std::min(p_.chunk, p_.n_tokens - chunk * p_.chunk) - first_;
  }

  const AttentionProblem& p_;
  int64_t first_, n_kv_, k_dim_, k_floats_, v_floats_;
  std::unique_ptr<float[]> k_, v_;
};

/// The keys and values that queries see: `far` begins at the first key that query 0 sees; `near` has the
/// recent positions, if any.
struct Sight {
  PackedHeads far;
  std::optional<PackedHeads> near;
};

Sight sight(const AttentionProblem& p) {
  // Query 0 sees the furthest back.
  const auto from = [&](int64_t n_seen) { return whole_panels(std::max<int64_t>(0, p.past - n_seen + 1)); };
  Sight out{PackedHeads(p, p.k, p.v, p.window > 0 ? from(p.window) : 0), std::nullopt};
  if (!p.recent) return out;
  const int64_t chunks = (p.n_tokens + p.chunk - 1) / p.chunk;
  const int64_t most = *std::max_element(p.recent, p.recent + chunks);
  if (most > 0) out.near.emplace(p, p.recent_k, p.recent_v, from(most));
  return out;
}

/// Attention of one head for the queries at positions [q0, q0 + rows) of a chunk. A query sees the chunk's
/// keys up to its own, or those of its window; the last `recent` of them come from recent_k.
/// The scores have two parts: keys that are further back for some query, and keys that are recent for some
/// query. Fewer than kQueryTile + kPanel keys of a query lie between the two parts; they are masked.
void attend_tile(const AttentionProblem& p, const Sight& seen, int64_t chunk, int64_t q0, int64_t rows,
                 int64_t head, int64_t recent, float* out) {
  // The first key that any query sees, rounded down to a whole panel.
  const int64_t k0 = p.window > 0 ? whole_panels(std::max<int64_t>(0, q0 - p.window + 1)) : 0;
  const int64_t keys = q0 + rows - k0, kv = head / p.group, out_stride = p.n_heads * p.v.dim;
  const int64_t n_far = std::max<int64_t>(0, keys - recent);  // keys [0, n_far), counted from k0
  const int64_t near0 = recent > 0 ? whole_panels(std::max<int64_t>(0, keys - rows - recent + 1)) : keys;
  const int64_t n_near = keys - near0,
                shift = n_far - near0;  // shift: from a recent key's index to its column
  const int64_t n_cols = n_far + n_near;
  const int64_t stride =
      ((n_cols / 16 + 1) | 1) * 16;  // with room for a sink, and never a multiple of 128 bytes
  const int64_t row0 = chunk * p.chunk + q0 - p.past;
  thread_local std::vector<float> buffer, queries;  // (rows, stride), (rows, q.dim)
  if (buffer.size() < size_t(rows * stride)) buffer.resize(size_t(rows * stride));
  if (queries.size() < size_t(rows * p.q.dim)) queries.resize(size_t(rows * p.q.dim));
  for (int64_t i = 0; i < rows; ++i) {
    const float* q = p.q.data + (row0 + i) * p.q.stride + head * p.q.head_stride;
    for (int64_t j = 0; j < p.q.dim; ++j) queries[size_t(i * p.q.dim + j)] = p.scale * q[j];
  }
  const Rows<const float> q{queries.data(), p.q.dim};
  const Rows<float> far{buffer.data(), stride}, near{buffer.data() + n_far, stride};
  if (n_far > 0) multiply_packed(q, rows, p.q.dim, seen.far.keys(chunk, kv, k0), n_far, far);
  if (n_near > 0) multiply_packed(q, rows, p.q.dim, seen.near->keys(chunk, kv, k0 + near0), n_near, near);
  float sums[kQueryTile];
  for (int64_t i = 0; i < rows; ++i) {
    float* row = buffer.data() + i * stride;
    const int64_t last = q0 + i + 1 - k0, begin = p.window > 0 ? std::max<int64_t>(0, last - p.window) : 0;
    const int64_t far_end = std::max(begin, last - recent), near_begin = far_end + shift, end = last + shift;
    if (p.softcap > 0) softcap(row + begin, p.softcap, end - begin);
    std::fill(row + far_end, row + near_begin, -std::numeric_limits<float>::infinity());
    if (p.sinks) row[end] = p.sinks[head];
    sums[i] = exp_below_max(row + begin, end - begin + (p.sinks ? 1 : 0));
    std::fill(row, row + begin, 0.0f);
    std::fill(row + far_end, row + near_begin, 0.0f);
    std::fill(row + end, row + std::max(end, n_cols), 0.0f);
  }
  const Rows<float> result{out + row0 * out_stride + head * p.v.dim, out_stride};
  if (n_far > 0)
    multiply_packed({far.data, stride}, rows, n_far, seen.far.values(chunk, kv, k0), p.v.dim, result, false,
                    seen.far.value_stride(chunk));
  if (n_near > 0)
    multiply_packed({near.data, stride}, rows, n_near, seen.near->values(chunk, kv, k0 + near0), p.v.dim,
                    result, n_far > 0, seen.near->value_stride(chunk));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < p.v.dim; ++j) result.data[i * out_stride + j] /= sums[i];
}

}  // namespace

void attention(const AttentionProblem& p, float* out) {
  const int64_t chunks = (p.n_tokens + p.chunk - 1) / p.chunk;
  const int64_t tiles = (p.chunk + kQueryTile - 1) / kQueryTile;
  const double keys = double(p.past) + double(p.chunk) / 2;  // half of the chunk's keys are masked
  const double flops = 2.0 * double(p.n_tokens * p.n_heads * (p.q.dim + p.v.dim)) * keys;
  const Sight seen = sight(p);
  share(size_t(chunks * p.n_heads * tiles), flops / kFlopsPerNanosecond, [&](size_t i) {
    // The longest tiles come first, so that the threads end together.
    const int64_t tile = tiles - 1 - int64_t(i) / (chunks * p.n_heads),
                  rest = int64_t(i) % (chunks * p.n_heads);
    const int64_t chunk = rest / p.n_heads, head = rest % p.n_heads;
    const int64_t rows =
        std::min(kQueryTile, std::min(p.chunk, p.n_tokens - chunk * p.chunk) - tile * kQueryTile);
    if (rows <= 0) return;
    int64_t recent = p.recent ? p.recent[chunk] : 0;
    if (p.window > 0 && recent >= p.window) recent = p.past + p.chunk;  // no query sees further back
    attend_tile(p, seen, chunk, p.past + tile * kQueryTile, rows, head, recent, out);
  });
}

}  // namespace blockgtq
