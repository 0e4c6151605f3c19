#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "cache/packed_cache.h"

namespace blockgtq {
namespace {

/// softmax(scale q K^T) V of one query over n positions of one KV head, whose rows are `stride` apart.
void attend(const float* q, const double* k, const double* v, int64_t n, int64_t stride, int dim,
            double scale, double* o) {
  std::fill_n(o, dim, 0.0);
  std::vector<double> s(n);
  for (int64_t t = 0; t < n; ++t)
    for (int d = 0; d < dim; ++d) s[t] += scale * q[d] * k[t * stride + d];
  const double most = n > 0 ? *std::max_element(s.begin(), s.end()) : 0;
  double sum = 0;
  for (int64_t t = 0; t < n; ++t) {
    const double p = std::exp(s[t] - most);
    sum += p;
    for (int d = 0; d < dim; ++d) o[d] += p * v[t * stride + d];
  }
  for (int d = 0; d < dim && sum > 0; ++d) o[d] /= sum;
}

}  // namespace

void PackedCache::decode_attention(std::span<const uint8_t* const> pages, int64_t length, const float* q,
                                   double scale, double* out) const {
  const int dim = spec_.layout.head_dim, n_kv = spec_.n_kv_heads(), group = spec_.n_heads / n_kv;
  check(int64_t(pages.size()) * kPagePositions >= length, "decode_attention: positions beyond the pages");
  const int64_t width = int64_t(n_kv) * dim;
  std::vector<double> k(length * width), v(length * width);  // (T, H, D)
  parallel_for(size_t(length),
               [&](size_t t) { read(int64_t(t), pages[t / kPagePositions], &k[t * width], &v[t * width]); });
  parallel_for(size_t(spec_.n_heads), [&](size_t g) {
    const size_t at = g / group * dim;
    attend(q + g * dim, k.data() + at, v.data() + at, length, width, dim, scale, out + g * dim);
  });
}

void PackedCache::prefill_attention(std::span<const uint8_t* const> pages, int64_t length, int64_t n_tokens,
                                    const float* q, const float* new_k, const float* new_v, double scale,
                                    double* out) const {
  const int dim = spec_.layout.head_dim, n_kv = spec_.n_kv_heads(), group = spec_.n_heads / n_kv;
  check(int64_t(pages.size()) * kPagePositions >= length, "prefill_attention: positions beyond the pages");
  const int64_t width = int64_t(n_kv) * dim;
  std::vector<double> k(length * width), v(length * width);  // (P + T, H, D)
  parallel_for(size_t(length),
               [&](size_t t) { read(int64_t(t), pages[t / kPagePositions], &k[t * width], &v[t * width]); });
  k.insert(k.end(), new_k, new_k + n_tokens * width);
  v.insert(v.end(), new_v, new_v + n_tokens * width);
  parallel_for(size_t(n_tokens) * spec_.n_heads, [&](size_t row) {
    const int64_t token = int64_t(row) / spec_.n_heads;
    const size_t at = row % spec_.n_heads / group * dim;
    attend(q + row * dim, k.data() + at, v.data() + at, length + token + 1, width, dim, scale,
           out + row * dim);
  });
}

}  // namespace blockgtq
