#include "model/output_moment.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr int64_t kRows = 16;    // of a head's matrix, a task
constexpr int64_t kWidth = 16;   // numbers that are summed side by side
constexpr int64_t kBlock = 128;  // vectors that meet a number before the next number's turn

/// moments (rows, stride) += v_a v_b over n vectors in order, a in [first, first + rows), b up to a and some
/// more. vectors (n, stride)
void add_products(const double* vectors, int64_t n, int64_t stride, int64_t first, int64_t rows,
                  double* moments) {
  for (int64_t a = first; a < first + rows; ++a) {
    for (int64_t b = 0; b <= a; b += kWidth) {
      double* to = moments + (a - first) * stride + b;
      std::array<double, kWidth> sum;
      std::copy_n(to, kWidth, sum.begin());
      for (int64_t i = 0; i < n; ++i) {
        const double* v = vectors + i * stride;
        for (int64_t j = 0; j < kWidth; ++j) sum[size_t(j)] += v[a] * v[b + j];
      }
      std::copy_n(sum.begin(), kWidth, to);
    }
  }
}

}  // namespace

std::vector<double> output_moment(const Linear& o, const AttentionShape& shape) {
  const int64_t d = shape.v_dim, group = shape.group(), width = int64_t(shape.n_heads) * d;
  check(o.cols() == width, "output_moment: W_o of another width");
  std::vector<double> sum(size_t(shape.n_kv_heads) * d * d);
  const int64_t tasks = (d + kRows - 1) / kRows, stride = (d + kWidth - 1) / kWidth * kWidth;
  // Each number is a sum over rows of W_o in ascending order, whatever the number of threads.
  parallel_for(size_t(shape.n_kv_heads * tasks), [&](size_t task) {
    // The longest rows first.
    const int64_t h = int64_t(task) % shape.n_kv_heads,
                  first = (tasks - 1 - int64_t(task) / shape.n_kv_heads) * kRows,
                  rows = std::min(kRows, d - first), most = std::max<int64_t>(1, kBlock / group);
    std::vector<double> moments(size_t(rows * stride)), vectors(size_t(most * group * stride));
    std::vector<float> row(size_t(group * d));
    for (int64_t i = 0; i < o.rows(); i += most) {
      const int64_t n = std::min(most, o.rows() - i);
      for (int64_t r = 0; r < n; ++r) {
        o.weight.read((i + r) * width + h * group * d, group * d, row.data());
        for (int64_t g = 0; g < group; ++g)
          std::copy_n(&row[size_t(g * d)], d, &vectors[size_t((r * group + g) * stride)]);
      }
      add_products(vectors.data(), n * group, stride, first, rows, moments.data());
    }
    double* m = &sum[size_t(h * d * d)];
    for (int64_t a = first; a < first + rows; ++a)
      for (int64_t b = 0; b <= a; ++b)
        m[a * d + b] = m[b * d + a] = moments[size_t((a - first) * stride + b)];
  });
  return sum;
}

}  // namespace blockgtq
