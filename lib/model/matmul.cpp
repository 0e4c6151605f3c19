#include "model/matmul.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "model/share.h"
#include "model/split_product.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

constexpr int64_t kTokenTile = 126;
constexpr int64_t kRowTile = 384;            // at most; a tile is wide enough that copying x for it is cheap
constexpr int64_t kSplitRowTile = 1536;      // splitting x is more expensive than copying it
constexpr int64_t kPackedWeights = 1 << 20;  // packed at a time, or a tile's weights: they stay in a cache
constexpr int64_t kGroupBytes = 32 << 20;    // of weights that are resident at a time

int64_t panels_of(int64_t rows) {
  return (rows + kPanel - 1) / kPanel;
}

/// Reads n rows of weights, from row `first` on, as float32: (n, cols), rows `stride` apart.
void read_rows(const Linear& w, int64_t first, int64_t n, int64_t stride, float* to) {
  const int64_t rows = w.rows(), cols = w.cols();
  if (!w.transposed) {
    for (int64_t i = 0; i < n; ++i) w.weight.read((first + i) * cols, cols, to + i * stride);
    return;
  }
  std::vector<float> column(static_cast<size_t>(n));
  for (int64_t k = 0; k < cols; ++k) {
    w.weight.read(k * rows + first, n, column.data());
    for (int64_t i = 0; i < n; ++i) to[i * stride + k] = column[size_t(i)];
  }
}

/// Calls f(panel, its rows, its weights (rows, cols), their stride) for `count` rows of weights, from row
/// `first` on.
template <class F>
void over_panels(const Linear& w, int64_t first, int64_t count, const F& f) {
  share(size_t(panels_of(count)), double(count * w.cols()) / 3, [&](size_t panel) {
    const int64_t r0 = int64_t(panel) * kPanel, n = std::min(kPanel, count - r0);
    // Rows that are a power of two apart would share a few sets of the cache.
    const int64_t stride = w.cols() + 16;
    thread_local std::vector<float> converted;  // kept, because getting new pages is expensive
    converted.resize(size_t(n * stride));
    read_rows(w, first + r0, n, stride, converted.data());
    f(int64_t(panel), n, converted.data(), stride);
  });
}

/// Some rows of weights, packed as products read them: once for all tokens. The memory is reused for the next
/// rows.
class PackedRows {
 public:
  void pack(const Linear& w, int64_t first, int64_t count) {
    depth_ = w.cols();
    const int64_t n = panels_of(count);
    if (uses_split_products()) {
      const int64_t lines = split_panel_lines(depth_);
      if (split_.size() < size_t(n * lines)) split_.resize(size_t(n * lines));
      terms_.resize(size_t(n));
      over_panels(w, first, count, [&](int64_t p, int64_t rows, const float* weights, int64_t stride) {
        terms_[size_t(p)] = split_panel(weights, stride, depth_, rows, split_.data() + p * lines);
      });
      return;
    }
    const int64_t floats = depth_ * kPanel;
    if (floats_.size() < size_t(n * floats)) floats_.resize(size_t(n * floats));
    over_panels(w, first, count, [&](int64_t p, int64_t rows, const float* weights, int64_t stride) {
      pack_transposed(weights, stride, depth_, rows, floats_.data() + p * floats);
    });
  }

  /// out (n, count) = x times `count` packed rows from `first` on, a multiple of kPanel.
  void multiply(Rows<const float> x, int64_t n, int64_t first, int64_t count, Rows<float> out) const {
    if (uses_split_products())
      split_multiply(x, n, depth_, split_.data() + first / kPanel * split_panel_lines(depth_),
                     terms_.data() + first / kPanel, count, out);
    else
      multiply_packed(x, n, depth_, floats_.data() + first * depth_, count, out);
  }

 private:
  int64_t depth_ = 0;
  std::vector<float> floats_;
  std::vector<SplitLine> split_;
  std::vector<int> terms_;
};

/// Rows of a tile, where `count` rows are cut into equal tiles.
int64_t row_tile(int64_t count) {
  const int64_t most = uses_split_products() ? kSplitRowTile : kRowTile, tiles = (count + most - 1) / most;
  return (count + tiles * kPanel - 1) / (tiles * kPanel) * kPanel;
}

/// y(:, first : first + count) = x W^T + b for one range of weight rows. y has rows() columns.
void linear_rows(const Linear& w, int64_t first, int64_t count, const float* x, int64_t n, float* y) {
  const int64_t rows = w.rows(), cols = w.cols();
  thread_local PackedRows packed;
  const PackedRows& weights = packed;  // those of this thread, which all threads read
  packed.pack(w, first, count);
  const int64_t height = row_tile(count), row_tiles = (count + height - 1) / height;
  const int64_t token_tiles = (n + kTokenTile - 1) / kTokenTile;
  share(size_t(row_tiles * token_tiles), 2.0 * double(n) * double(count * cols) / 100, [&](size_t tile) {
    const int64_t r0 = int64_t(tile) / token_tiles * height, t0 = int64_t(tile) % token_tiles * kTokenTile;
    const int64_t r = std::min(height, count - r0), t = std::min(kTokenTile, n - t0);
    const Rows<float> out{y + t0 * rows + first + r0, rows};
    weights.multiply({x + t0 * cols, cols}, t, r0, r, out);
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
