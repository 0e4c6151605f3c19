#include "cache/attention.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"

namespace blockgtq {

void decode_attention(const PlainPositions& x, int n_heads, const float* q, double scale, double* out) {
  const int dim = x.dim, group = n_heads / x.n_kv_heads;
  const int64_t width = int64_t(x.n_kv_heads) * dim, length = int64_t(x.k.size()) / width;
  parallel_for(size_t(n_heads), [&](size_t g) {
    const int h = int(g) / group;
    double* o = out + g * dim;
    std::fill_n(o, dim, 0.0);
    std::vector<double> s(length);
    for (int64_t t = 0; t < length; ++t)
      for (int d = 0; d < dim; ++d) s[t] += scale * q[g * dim + d] * x.k[t * width + h * dim + d];
    const double most = length > 0 ? *std::max_element(s.begin(), s.end()) : 0;
    double sum = 0;
    for (int64_t t = 0; t < length; ++t) {
      const double p = std::exp(s[t] - most);
      sum += p;
      for (int d = 0; d < dim; ++d) o[d] += p * x.v[t * width + h * dim + d];
    }
    for (int d = 0; d < dim && sum > 0; ++d) o[d] /= sum;
  });
}

}  // namespace blockgtq
