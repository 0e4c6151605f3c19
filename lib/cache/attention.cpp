#include "cache/attention.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"

namespace blockgtq {

void attend(const PlainPositions& x, int n_heads, int64_t n_queries, const float* q, double scale,
            double* out) {
  const int dim = x.dim, group = n_heads / x.n_kv_heads;
  const int64_t width = int64_t(x.n_kv_heads) * dim, all = int64_t(x.k.size()) / width;
  parallel_for(size_t(n_queries * n_heads), [&](size_t row) {
    const int64_t length = std::max<int64_t>(all - n_queries + 1 + int64_t(row) / n_heads, 0);
    const int64_t at = int64_t(row) % n_heads / group * dim;
    const double *k = x.k.data() + at, *v = x.v.data() + at;
    double* o = out + row * dim;
    std::fill_n(o, dim, 0.0);
    std::vector<double> s(length);
    for (int64_t t = 0; t < length; ++t)
      for (int d = 0; d < dim; ++d) s[t] += scale * q[row * dim + d] * k[t * width + d];
    const double most = length > 0 ? *std::max_element(s.begin(), s.end()) : 0;
    double sum = 0;
    for (int64_t t = 0; t < length; ++t) {
      const double p = std::exp(s[t] - most);
      sum += p;
      for (int d = 0; d < dim; ++d) o[d] += p * v[t * width + d];
    }
    for (int d = 0; d < dim && sum > 0; ++d) o[d] /= sum;
  });
}

}  // namespace blockgtq
