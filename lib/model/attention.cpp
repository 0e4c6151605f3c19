#include "model/attention.h"

#include <algorithm>
#include <vector>

#include "model/elementwise.h"
#include "model/gemm.h"
#include "model/share.h"

namespace blockgtq {

namespace {

constexpr int64_t kQueryTile = 64;
constexpr double kFlopsPerNanosecond = 50;  // of one thread, roughly

/// Queries [q0, q0 + rows) of the chunk that starts at token `start`, one head: they see the chunk's keys up
/// to their own, or those of their window.
void attend_tile(const AttentionProblem& p, int64_t start, int64_t q0, int64_t rows, int64_t head,
                 float* out) {
  const int64_t k0 = p.window > 0 ? std::max<int64_t>(0, q0 - p.window + 1) : 0;  // the first that any sees
  const int64_t keys = q0 + rows - k0, kv = head / p.group, out_stride = p.n_heads * p.v.dim;
  const int64_t stride = p.sinks ? keys + 1 : keys;
  thread_local std::vector<float> buffer;  // (rows, stride)
  if (buffer.size() < size_t(rows * stride)) buffer.resize(size_t(rows * stride));
  MatrixView scores = view(buffer.data(), rows, keys, stride);
  const auto q =
      view(p.q.data + (start + q0) * p.q.stride + head * p.q.head_stride, rows, p.q.dim, p.q.stride);
  const int64_t first = start + k0;
  const auto k = view(p.k.data + first * p.k.stride + kv * p.k.head_stride, keys, p.k.dim, p.k.stride);
  const auto v = view(p.v.data + first * p.v.stride + kv * p.v.head_stride, keys, p.v.dim, p.v.stride);
  multiply(scores, p.scale, q, k.transpose());
  float sums[kQueryTile];
  for (int64_t i = 0; i < rows; ++i) {
    float* row = buffer.data() + i * stride;
    const int64_t end = q0 + i + 1 - k0, begin = p.window > 0 ? std::max<int64_t>(0, end - p.window) : 0;
    if (p.softcap > 0) softcap(row + begin, p.softcap, end - begin);
    if (p.sinks) row[end] = p.sinks[head];
    sums[i] = exp_below_max(row + begin, end - begin + (p.sinks ? 1 : 0));
    std::fill(row, row + begin, 0.0f);
    std::fill(row + end, row + stride, 0.0f);
  }
  MatrixView result = view(out + (start + q0) * out_stride + head * p.v.dim, rows, p.v.dim, out_stride);
  multiply(result, 1, scores, v);
  for (int64_t i = 0; i < rows; ++i) result.row(i) /= sums[i];
}

}  // namespace

void attention(const AttentionProblem& p, float* out) {
  const int64_t chunks = (p.n_tokens + p.chunk - 1) / p.chunk;
  const int64_t tiles = (p.chunk + kQueryTile - 1) / kQueryTile;
  const double flops =
      2.0 * double(p.n_tokens * p.n_heads * p.chunk * (p.q.dim + p.v.dim)) / 2;  // half is masked
  share(size_t(chunks * p.n_heads * tiles), flops / kFlopsPerNanosecond, [&](size_t i) {
    // The longest tiles first, so that the threads end together.
    const int64_t tile = tiles - 1 - int64_t(i) / (chunks * p.n_heads),
                  rest = int64_t(i) % (chunks * p.n_heads);
    const int64_t start = rest / p.n_heads * p.chunk, head = rest % p.n_heads;
    const int64_t q0 = tile * kQueryTile;
    const int64_t rows = std::min(kQueryTile, std::min(p.chunk, p.n_tokens - start) - q0);
    if (rows > 0) attend_tile(p, start, q0, rows, head, out);
  });
}

}  // namespace blockgtq
