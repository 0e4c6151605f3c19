// Functions of single activations. Sums have 16 lanes, which are added in a fixed order. So the compiler may
// vectorize them, and no result depends on alignment or threads.
#include "model/elementwise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/fast_exp.h"
#include "base/processor.h"
#include "model/share.h"

namespace blockgtq {

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 1 << 15;  // of one parallel piece; an element takes about a nanosecond

float total(const std::array<float, kLanes>& lanes) {
  float out = 0;
  for (float lane : lanes) out += lane;
  return out;
}

float sum_of_squares(const float* x, int64_t n) {
  std::array<float, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[size_t(l)] += x[i + l] * x[i + l];
  for (; i < n; ++i) lanes[0] += x[i] * x[i];
  return total(lanes);
}

float largest(const float* x, int64_t n) {
  std::array<float, kLanes> lanes;
  lanes.fill(x[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l)
      lanes[size_t(l)] = x[i + l] > lanes[size_t(l)] ? x[i + l] : lanes[size_t(l)];
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

/// Calls body(first, count) for pieces of n elements, in parallel.
template <class Body>
void over_blocks(int64_t n, const Body& body) {
  share(size_t((n + kBlock - 1) / kBlock), double(n), [&](size_t b) {
    const int64_t first = int64_t(b) * kBlock;
    body(first, std::min(kBlock, n - first));
  });
}

BLOCKGTQ_INLINED float exps(float* x, float shift, int64_t n) {
  std::array<float, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[size_t(l)] += x[i + l] = fast_exp(x[i + l] - shift);
  for (; i < n; ++i) lanes[0] += x[i] = fast_exp(x[i] - shift);
  return total(lanes);
}
BLOCKGTQ_AVX512 float exps_avx512(float* x, float shift, int64_t n) {
  return exps(x, shift, n);
}

BLOCKGTQ_INLINED void silus(float* g, const float* u, int64_t n) {
  for (int64_t i = 0; i < n; ++i) g[i] = g[i] / (1.0f + fast_exp(-g[i])) * u[i];
}
BLOCKGTQ_AVX512 void silus_avx512(float* g, const float* u, int64_t n) {
  silus(g, u, n);
}

inline bool finite_bits(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
}

}  // namespace

float exp_below_max(float* x, int64_t n) {
  const float shift = largest(x, n);
  return has_avx512() ? exps_avx512(x, shift, n) : exps(x, shift, n);
}

void rms_norm(const Tensor& weight, double eps, const float* x, int64_t x_stride, int64_t n, float* y,
              int64_t y_stride, double offset) {
  const int64_t dim = weight.elements();
  std::vector<float> w(static_cast<size_t>(dim));
  weight.read(0, dim, w.data());
  for (float& one : w) one += float(offset);
  const int64_t rows = std::max<int64_t>(1, kBlock / dim);
  share(size_t((n + rows - 1) / rows), double(n * dim), [&](size_t b) {
    for (int64_t t = int64_t(b) * rows; t < std::min(n, (int64_t(b) + 1) * rows); ++t) {
      const float* in = x + t * x_stride;
      float* out = y + t * y_stride;
      const float scale = 1.0f / std::sqrt(sum_of_squares(in, dim) / float(dim) + float(eps));
      for (int64_t i = 0; i < dim; ++i) out[i] = in[i] * scale * w[size_t(i)];
    }
  });
}

void silu_times(float* gate, const float* up, int64_t n) {
  over_blocks(n, [&](int64_t first, int64_t count) {
    has_avx512() ? silus_avx512(gate + first, up + first, count) : silus(gate + first, up + first, count);
  });
}

void gelu_tanh_times(float* gate, const float* up, int64_t n) {
  constexpr float kRoot = 0.7978845608028654f;  // sqrt(2 / pi)
  over_blocks(n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const float g = gate[i];
      const float gelu = 0.5f * g * (1.0f + std::tanh(kRoot * (g + 0.044715f * g * g * g)));
      gate[i] = up ? gelu * up[i] : gelu;
    }
  });
}

void clamped_swiglu(float* gate, const float* up, double limit, double alpha, int64_t n) {
  const float most = float(limit), a = float(alpha);
  over_blocks(n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const float g = std::min(gate[i], most), u = std::clamp(up[i], -most, most);
      gate[i] = g / (1.0f + fast_exp(-a * g)) * (u + 1.0f);
    }
  });
}

void times_sigmoid(float* x, const float* gate, int64_t n) {
  over_blocks(n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) x[i] /= 1.0f + fast_exp(-gate[i]);
  });
}

void softcap(float* x, double cap, int64_t n) {
  const float c = float(cap);
  over_blocks(n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) x[i] = c * std::tanh(x[i] / c);
  });
}

void add_to(float* x, const float* y, int64_t n, float scale) {
  over_blocks(n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) x[i] += scale * y[i];
  });
}

int64_t first_nonfinite(const float* x, int64_t n) {
  std::vector<int64_t> found(size_t((n + kBlock - 1) / kBlock), n);
  over_blocks(n, [&](int64_t first, int64_t count) {
    unsigned bad = 0;
    for (int64_t i = first; i < first + count; ++i) bad |= unsigned(!finite_bits(x[i]));
    if (!bad) return;
    const float* at = std::find_if(x + first, x + first + count, [](float v) { return !finite_bits(v); });
    found[size_t(first / kBlock)] = at - x;
  });
  return found.empty() ? n : *std::min_element(found.begin(), found.end());
}

}  // namespace blockgtq
