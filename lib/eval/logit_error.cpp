#include "eval/logit_error.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

constexpr size_t kTile = 240;  // rows (token, query head) at a time; any number gives the same value

}  // namespace

LogitError::LogitError(const BlockLayout& layout, std::vector<double> inv_freq, int window, int n_offsets)
    : layout_(layout), n_offsets_(n_offsets) {
  const size_t n = layout.n_rotary();
  check(inv_freq.size() == n, "LogitError: frequencies of another number of blocks");
  check(window >= 0 && n_offsets >= 2, "LogitError: negative window or fewer than two offsets");
  table_.resize(2 * n * n_offsets);
  const double step = 2.0 * window / (n_offsets - 1);
  for (int o = 0; o < n_offsets; ++o) {
    const double delta = o + 1 == n_offsets ? window : -double(window) + step * o;
    for (size_t i = 0; i < n; ++i) {
      table_[i * n_offsets + o] = float(std::cos(delta * inv_freq[i]));
      table_[(n + i) * n_offsets + o] = float(std::sin(delta * inv_freq[i]));
    }
  }
}

double LogitError::sum(const float* q, int64_t q_stride, int group, const float* k, int64_t k_stride,
                       const float* k_hat, int64_t n) const {
  return n > 0 ? running_sums(q, q_stride, group, k, k_stride, k_hat, n, n).back() : 0;
}

std::vector<double> LogitError::running_sums(const float* q, int64_t q_stride, int group, const float* k,
                                             int64_t k_stride, const float* k_hat, int64_t n,
                                             int64_t chunk) const {
  const int d = layout_.head_dim, n_rotary = layout_.n_rotary(), n_blocks = layout_.n_blocks();
  std::vector<std::array<int, 2>> coords;  // (n_blocks)
  for (int b = 0; b < n_blocks; ++b) coords.push_back(layout_.coords(b));

  std::vector<float> ab(kTile * 2 * n_rotary);  // (kTile, 2 * n_rotary): A, then B
  std::vector<float> fixed(kTile);              // (kTile) the static part
  std::vector<float> err(kTile * n_offsets_);   // (kTile, n_offsets)
  std::vector<float> e(d);
  std::vector<double> per_offset(n_offsets_);  // summed over rows in ascending order
  std::vector<double> sums;                    // (n_chunks) the total after every chunk
  const auto so_far = [&] {
    double total = 0;
    for (const double s : per_offset) total += s;
    return total;
  };
  size_t rows = 0;
  int64_t done = 0;  // rows before the current tile
  const auto flush = [&] {
    multiply(ab.data(), rows, 2 * n_rotary, table_.data(), n_offsets_, err.data());
    for (size_t r = 0; r < rows; ++r) {
      for (int o = 0; o < n_offsets_; ++o)
        per_offset[o] += std::abs(double(err[r * n_offsets_ + o]) + double(fixed[r]));
      if (++done % (chunk * group) == 0) sums.push_back(so_far());
    }
    rows = 0;
  };
  for (int64_t t = 0; t < n; ++t) {
    for (int j = 0; j < d; ++j) e[j] = k[t * k_stride + j] - k_hat[t * d + j];
    for (int g = 0; g < group; ++g) {
      const float* qt = q + t * q_stride + int64_t(g) * d;
      float* a = &ab[rows * 2 * n_rotary];
      float* b = a + n_rotary;
      for (int i = 0; i < n_rotary; ++i) {
        const auto [x, y] = coords[i];
        a[i] = qt[x] * e[x] + qt[y] * e[y];
        b[i] = qt[y] * e[x] - qt[x] * e[y];
      }
      float rest = 0;
      for (int i = n_rotary; i < n_blocks; ++i) {
        const auto [x, y] = coords[i];
        rest += qt[x] * e[x] + qt[y] * e[y];
      }
      fixed[rows] = rest;
      if (++rows == kTile) flush();
    }
  }
  flush();
  if (done % (chunk * group) != 0) sums.push_back(so_far());
  return sums;
}

}  // namespace blockgtq
