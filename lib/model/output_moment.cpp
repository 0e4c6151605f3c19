#include "model/output_moment.h"

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

std::vector<double> output_moment(const Linear& o, const AttentionShape& shape) {
  const int64_t d = shape.v_dim, group = shape.group(), width = int64_t(shape.n_heads) * d;
  check(o.cols() == width, "output_moment: W_o of another width");
  std::vector<double> sum(size_t(shape.n_kv_heads) * d * d);
  // One head after the other: rows of W_o in ascending order, whatever the number of threads.
  parallel_for(shape.n_kv_heads, [&](size_t h) {
    double* m = &sum[h * size_t(d * d)];
    std::vector<float> row(group * d);
    for (int64_t i = 0; i < o.rows(); ++i) {
      o.weight.read(i * width + int64_t(h) * group * d, group * d, row.data());
      for (int64_t g = 0; g < group; ++g) {
        const float* w = &row[g * d];
        for (int64_t a = 0; a < d; ++a)
          for (int64_t b = 0; b < d; ++b) m[a * d + b] += double(w[a]) * w[b];
      }
    }
  });
  return sum;
}

}  // namespace blockgtq
