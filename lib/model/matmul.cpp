#include "model/matmul.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/gemm.h"
#include "model/share.h"

namespace blockgtq {

namespace {

constexpr int64_t kTokenTile = 512;
constexpr int64_t kTokenGroup = 4;  // tokens of one step of Eigen's kernel; a rest it adds up in another way
constexpr int64_t kDepthTile = 4096;       // columns converted at a time: at most 4 MiB of float32 per thread
constexpr int64_t kGroupBytes = 32 << 20;  // of weights resident at a time

/// Weight rows of a tile: wide enough that packing x for it is cheap, small enough that a narrow matrix still
/// gives every thread some.
int64_t row_tile(int64_t rows) {
  return rows >= 2048 ? 256 : rows >= 512 ? 128 : 64;
}

/// y(:, first : first + count) = x W^T + b for one range of weight rows; y has rows() columns.
void linear_rows(const Linear& w, int64_t first, int64_t count, const float* x, int64_t n, float* y) {
  const int64_t rows = w.rows(), cols = w.cols(), height = row_tile(rows);
  const int64_t row_tiles = (count + height - 1) / height;
  const int64_t token_tiles = (n + kTokenTile - 1) / kTokenTile;
  // Of one thread, roughly: 100 flops per nanosecond, and 3 weights converted.
  const double nanoseconds = double(count) * double(cols) * (2.0 * double(n) / 100 + double(token_tiles) / 3);
  share(size_t(row_tiles * token_tiles), nanoseconds, [&](size_t tile) {
    const int64_t r0 = first + int64_t(tile) / token_tiles * height,
                  t0 = int64_t(tile) % token_tiles * kTokenTile;
    const int64_t r = std::min(height, first + count - r0), t = std::min(kTokenTile, n - t0);
    thread_local std::vector<float> converted;  // (r, depth), kept: its pages are dear to get
    if (converted.size() < size_t(r * std::min(cols, kDepthTile)))
      converted.resize(size_t(r * std::min(cols, kDepthTile)));
    // A token's numbers must not depend on how many stand beside it: the last group is filled up.
    const int64_t filled = (t + kTokenGroup - 1) / kTokenGroup * kTokenGroup;
    thread_local std::vector<float> spare;  // (filled, r)
    if (filled != t && spare.size() < size_t(filled * r)) spare.resize(size_t(filled * r));
    float* target = filled == t ? y + t0 * rows + r0 : spare.data();
    MatrixView product = view(target, filled, r, filled == t ? rows : r);
    for (int64_t c0 = 0; c0 < cols; c0 += kDepthTile) {
      const int64_t depth = std::min(kDepthTile, cols - c0);
      if (w.transposed) {
        thread_local std::vector<float> columns;  // (depth, r)
        columns.resize(size_t(depth * r));
        for (int64_t i = 0; i < depth; ++i) w.weight.read((c0 + i) * rows + r0, r, columns.data() + i * r);
        view(converted.data(), r, depth, depth) =
            view(std::as_const(columns).data(), depth, r, r).transpose();
      } else {
        for (int64_t i = 0; i < r; ++i)
          w.weight.read((r0 + i) * cols + c0, depth, converted.data() + i * depth);
      }
      const ConstMatrixView weights = view(std::as_const(converted).data(), r, depth, depth);
      const float* in = x + t0 * cols + c0;
      if (filled == t) {
        multiply(product, 1, view(in, t, depth, cols), weights.transpose(), c0 > 0);
      } else {
        thread_local std::vector<float> copy;  // (filled, depth)
        copy.assign(size_t(filled * depth), 0);
        for (int64_t i = 0; i < t; ++i) std::copy_n(in + i * cols, depth, copy.data() + i * depth);
        multiply(product, 1, view(std::as_const(copy).data(), filled, depth, depth), weights.transpose(),
                 c0 > 0);
      }
    }
    MatrixView out = view(y + t0 * rows + r0, t, r, rows);
    if (filled != t) out = product.topRows(t);
    if (w.bias) {
      Eigen::RowVectorXf bias(r);
      w.bias->read(r0, r, bias.data());
      out.rowwise() += bias;
    }
  });
}

}  // namespace

void linear(const Linear& w, const float* x, int64_t n, float* y) {
  check(w.weight.shape.size() == 2, "linear: weights of two dimensions");
  linear_rows(w, 0, w.rows(), x, n, y);
}

void linear(const Checkpoint& model, const Linear& w, const float* x, int64_t n, float* y) {
  check(w.weight.shape.size() == 2, "linear: weights of two dimensions");
  const int64_t row_bytes = std::max<int64_t>(1, w.weight.row_bytes());
  const int64_t height = row_tile(w.rows());
  const int64_t group = std::max(height, kGroupBytes / row_bytes / height * height);
  for (int64_t first = 0; first < w.rows(); first += group) {
    const int64_t count = std::min(group, w.rows() - first);
    linear_rows(w, first, count, x, n, y);
    if (!w.transposed) model.release(w.weight.rows(first, count));
  }
  if (w.transposed) model.release(w.weight);
}

}  // namespace blockgtq
