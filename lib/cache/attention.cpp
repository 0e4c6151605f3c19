#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "cache/packed_cache.h"

namespace blockgtq {

void PackedCache::decode_attention(std::span<const uint8_t* const> pages, int64_t length, const float* q,
                                   double scale, double* out) const {
  const int dim = spec_.layout.head_dim, n_kv = spec_.n_kv_heads(), group = spec_.n_heads / n_kv;
  check(int64_t(pages.size()) * kPagePositions >= length, "decode_attention: positions beyond the pages");
  const int64_t width = int64_t(n_kv) * dim;
  std::vector<double> k(length * width), v(length * width);  // (T, H, D)
  parallel_for(size_t(length),
               [&](size_t t) { read(int64_t(t), pages[t / kPagePositions], &k[t * width], &v[t * width]); });
  parallel_for(size_t(spec_.n_heads), [&](size_t g) {
    const int h = int(g) / group;
    double* o = out + g * dim;
    std::fill_n(o, dim, 0.0);
    std::vector<double> s(length);
    for (int64_t t = 0; t < length; ++t)
      for (int d = 0; d < dim; ++d) s[t] += scale * q[g * dim + d] * k[t * width + h * dim + d];
    const double most = length > 0 ? *std::max_element(s.begin(), s.end()) : 0;
    double sum = 0;
    for (int64_t t = 0; t < length; ++t) {
      const double p = std::exp(s[t] - most);
      sum += p;
      for (int d = 0; d < dim; ++d) o[d] += p * v[t * width + h * dim + d];
    }
    for (int d = 0; d < dim && sum > 0; ++d) o[d] /= sum;
  });
}

}  // namespace blockgtq
