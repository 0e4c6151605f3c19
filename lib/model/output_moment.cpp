#include "model/output_moment.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr int64_t kRows = 16;    // rows of a head's matrix in one task
constexpr int64_t kWidth = 16;   // numbers that are summed side by side
constexpr int64_t kBlock = 128;  // vectors for one number before the next number's turn
constexpr int64_t kPanel = 512;  // rows of W_o that are held as floats at a time

/// The first of the i-th last kRows rows of a head's (d, d) matrix, or of what is left of them.
int64_t first_row(int64_t i, int64_t d) {
  return ((d + kRows - 1) / kRows - 1 - i) * kRows;
}

/// moments (rows, stride) += v_a v_b, added over n vectors in order, for a in [first, first + rows) and b up
/// to a (and some more). vectors (n, stride).
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
  const int64_t tasks = (d + kRows - 1) / kRows, stride = (d + kWidth - 1) / kWidth * kWidth;
  const int64_t n_tasks = shape.n_kv_heads * tasks, most = std::max<int64_t>(1, kBlock / group);
  std::vector<std::vector<double>> moments(static_cast<size_t>(n_tasks));
  std::vector<float> panel(size_t(std::min(kPanel, o.rows()) * width));  // rows of W_o
  // Every number is a sum over the rows of W_o in ascending order, whatever the number of threads.
  for (int64_t row = 0; row < o.rows(); row += kPanel) {
    const int64_t count = std::min(kPanel, o.rows() - row);
    parallel_for(size_t(count), [&](size_t r) {
      o.weight.read((row + int64_t(r)) * width, width, &panel[r * size_t(width)]);
    });
    parallel_for(size_t(n_tasks), [&](size_t task) {
      // The longest rows come first.
      const int64_t h = int64_t(task) % shape.n_kv_heads,
                    first = first_row(int64_t(task) / shape.n_kv_heads, d), rows = std::min(kRows, d - first);
      std::vector<double>& sums = moments[task];
      sums.resize(size_t(rows * stride));
      std::vector<double> vectors(size_t(most * group * stride));
      for (int64_t i = 0; i < count; i += most) {
        const int64_t n = std::min(most, count - i) * group;
        for (int64_t v = 0; v < n; ++v)
          std::copy_n(&panel[size_t((i + v / group) * width + (h * group + v % group) * d)], d,
                      &vectors[size_t(v * stride)]);
        add_products(vectors.data(), n, stride, first, rows, sums.data());
      }
    });
  }
  std::vector<double> sum(size_t(shape.n_kv_heads) * d * d);
  for (int64_t task = 0; task < n_tasks; ++task) {
    const int64_t first = first_row(task / shape.n_kv_heads, d);
    double* m = &sum[size_t(task % shape.n_kv_heads * d * d)];
    for (int64_t a = first; a < std::min(d, first + kRows); ++a)
      for (int64_t b = 0; b <= a; ++b)
        m[a * d + b] = m[b * d + a] = moments[size_t(task)][size_t((a - first) * stride + b)];
  }
  return sum;
}

}  // namespace blockgtq
