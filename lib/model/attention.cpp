#include "model/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "model/elementwise.h"
#include "model/gemm.h"
#include "model/share.h"

namespace blockgtq {

namespace {

constexpr int64_t kQueryTile = 64;
constexpr double kFlopsPerNanosecond = 50;  // of one thread, roughly

ConstMatrixView rows_of(const Heads& x, int64_t head, int64_t first, int64_t n) {
  return view(x.data + first * x.stride + head * x.head_stride, n, x.dim, x.stride);
}

/// Queries at positions [q0, q0 + rows) of the chunk that starts at token `start`, one head: they see the
/// chunk's keys up to their own, or those of their window; the last `recent` from recent_k. Scores lie in two
/// parts, of the keys that are further back for some query and of those that are recent for some; at most 63
/// between a query's keys of the one and of the other are masked.
void attend_tile(const AttentionProblem& p, int64_t start, int64_t q0, int64_t rows, int64_t head,
                 int64_t recent, float* out) {
  const int64_t k0 = p.window > 0 ? std::max<int64_t>(0, q0 - p.window + 1) : 0;  // the first that any sees
  const int64_t keys = q0 + rows - k0, kv = head / p.group, out_stride = p.n_heads * p.v.dim;
  const int64_t n_far = std::max<int64_t>(0, keys - recent);  // keys [0, n_far) from k0 on
  const int64_t near0 = recent > 0 ? std::max<int64_t>(0, keys - rows - recent + 1) : keys;
  const int64_t n_near = keys - near0, shift = n_far - near0;  // of a recent key's column
  const int64_t n_cols = n_far + n_near, stride = p.sinks ? n_cols + 1 : n_cols;
  thread_local std::vector<float> buffer;  // (rows, stride)
  if (buffer.size() < size_t(rows * stride)) buffer.resize(size_t(rows * stride));
  MatrixView far = view(buffer.data(), rows, n_far, stride),
             near = view(buffer.data() + n_far, rows, n_near, stride);
  const int64_t row0 = start + q0 - p.past;
  const auto q = rows_of(p.q, head, row0, rows);
  const int64_t first = start + k0;
  if (n_far > 0) multiply(far, p.scale, q, rows_of(p.k, kv, first, n_far).transpose());
  if (n_near > 0) multiply(near, p.scale, q, rows_of(p.recent_k, kv, first + near0, n_near).transpose());
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
    std::fill(row + end, row + stride, 0.0f);
  }
  MatrixView result = view(out + row0 * out_stride + head * p.v.dim, rows, p.v.dim, out_stride);
  if (n_far > 0) multiply(result, 1, far, rows_of(p.v, kv, first, n_far));
  if (n_near > 0) multiply(result, 1, near, rows_of(p.recent_v, kv, first + near0, n_near), n_far > 0);
  for (int64_t i = 0; i < rows; ++i) result.row(i) /= sums[i];
}

}  // namespace

void attention(const AttentionProblem& p, float* out) {
  const int64_t chunks = (p.n_tokens + p.chunk - 1) / p.chunk;
  const int64_t tiles = (p.chunk + kQueryTile - 1) / kQueryTile;
  const double keys = double(p.past) + double(p.chunk) / 2;  // half of the chunk's is masked
  const double flops = 2.0 * double(p.n_tokens * p.n_heads * (p.q.dim + p.v.dim)) * keys;
  share(size_t(chunks * p.n_heads * tiles), flops / kFlopsPerNanosecond, [&](size_t i) {
    // The longest tiles first, so that the threads end together.
    const int64_t tile = tiles - 1 - int64_t(i) / (chunks * p.n_heads),
                  rest = int64_t(i) % (chunks * p.n_heads);
    const int64_t start = rest / p.n_heads * p.chunk, head = rest % p.n_heads;
    const int64_t rows = std::min(kQueryTile, std::min(p.chunk, p.n_tokens - start) - tile * kQueryTile);
    if (rows <= 0) return;
    int64_t recent = p.recent ? p.recent[start / p.chunk] : 0;
    if (p.window > 0 && recent >= p.window) recent = p.past + p.chunk;  // nothing further back
    attend_tile(p, start, p.past + tile * kQueryTile, rows, head, recent, out);
  });
}

}  // namespace blockgtq
