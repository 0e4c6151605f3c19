#include "model/matmul.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "model/share.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

constexpr int64_t kTokenTile = 128;
constexpr int64_t kRowTile = 384;            // at most; a tile is wide enough that copying x for it is cheap
constexpr int64_t kPackedWeights = 1 << 20;  // packed at a time, or a tile's weights: they stay in a cache
constexpr int64_t kGroupBytes = 32 << 20;    // of weights that are resident at a time

/// Converts and packs `count` rows of weights, from row `first` on.
void pack_weights(const Linear& w, int64_t first, int64_t count, float* panels) {
  const int64_t rows = w.rows(), cols = w.cols();
  share(size_t((count + kPanel - 1) / kPanel), double(count * cols) / 3, [&](size_t panel) {
    const int64_t r0 = int64_t(panel) * kPanel, n = std::min(kPanel, count - r0);
    thread_local std::vector<float> converted;  // kept, because getting new pages is expensive
    if (w.transposed) {                         // (cols, n)
      converted.resize(size_t(cols * n));
      for (int64_t i = 0; i < cols; ++i) w.weight.read(i * rows + first + r0, n, converted.data() + i * n);
      pack(converted.data(), n, cols, n, panels + r0 * cols);
      return;
    }
    const int64_t stride =
        cols + 16;  // rows that are a power of two apart would share a few sets of the cache
    converted.resize(size_t(n * stride));
    for (int64_t i = 0; i < n; ++i)
      w.weight.read((first + r0 + i) * cols, cols, converted.data() + i * stride);
    pack_transposed(converted.data(), stride, cols, n, panels + r0 * cols);
  });
}

/// Rows of a tile, where `count` rows are cut into equal tiles.
int64_t row_tile(int64_t count) {
  const int64_t tiles = (count + kRowTile - 1) / kRowTile;
  return (count + tiles * kPanel - 1) / (tiles * kPanel) * kPanel;
}

/// y(:, first : first + count) = x W^T + b for one range of weight rows. y has rows() columns.
void linear_rows(const Linear& w, int64_t first, int64_t count, const float* x, int64_t n, float* y) {
  const int64_t rows = w.rows(), cols = w.cols();
  thread_local std::vector<float> panels;
  if (const auto floats = size_t(packed_floats(cols, count)); panels.size() < floats) panels.resize(floats);
  const float* weights = panels.data();  // those of this thread, which all threads read
  pack_weights(w, first, count, panels.data());
  const int64_t height = row_tile(count), row_tiles = (count + height - 1) / height;
  const int64_t token_tiles = (n + kTokenTile - 1) / kTokenTile;
  share(size_t(row_tiles * token_tiles), 2.0 * double(n) * double(count * cols) / 100, [&](size_t tile) {
    const int64_t r0 = int64_t(tile) / token_tiles * height, t0 = int64_t(tile) % token_tiles * kTokenTile;
    const int64_t r = std::min(height, count - r0), t = std::min(kTokenTile, n - t0);
    const Rows<float> out{y + t0 * rows + first + r0, rows};
    multiply_packed({x + t0 * cols, cols}, t, cols, weights + r0 * cols, r, out);
    if (!w.bias) return;
    std::vector<float> bias(static_cast<size_t>(r));
    w.bias->read(first + r0, r, bias.data());
    for (int64_t i = 0; i < t; ++i)
      for (int64_t j = 0; j < r; ++j) out.data[i * rows + j] += bias[size_t(j)];
  });
}

/// How many rows of weights are packed together.
int64_t packed_rows(const Linear& w) {
  return std::max(kRowTile, kPackedWeights / w.cols() / kPanel * kPanel);
}

}  // namespace

void linear(const Linear& w, const float* x, int64_t n, float* y) {
  check(w.weight.shape.size() == 2, "linear: weights of two dimensions");
  const int64_t group = packed_rows(w);
  for (int64_t first = 0; first < w.rows(); first += group)
    linear_rows(w, first, std::min(group, w.rows() - first), x, n, y);
}

void linear(const Checkpoint& model, const Linear& w, const float* x, int64_t n, float* y) {
  check(w.weight.shape.size() == 2, "linear: weights of two dimensions");
  const int64_t group = packed_rows(w), bytes = w.weight.row_bytes();
  int64_t released = 0;
  for (int64_t first = 0; first < w.rows(); first += group) {
    const int64_t end = std::min(first + group, w.rows());
    linear_rows(w, first, end - first, x, n, y);
    if (w.transposed || ((end - released) * bytes < kGroupBytes && end < w.rows())) continue;
    model.release(w.weight.rows(released, end - released));
    released = end;
  }
  if (w.transposed) model.release(w.weight);
}

}  // namespace blockgtq
