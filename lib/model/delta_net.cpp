// Source of the formulas: transformers, modeling_qwen3_next.py and modeling_qwen3_5.py.
#include "model/delta_net.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/elementwise.h"
#include "model/matmul.h"
#include "model/share.h"

namespace blockgtq {

namespace {

struct Sizes {
  int64_t key_heads, value_heads, key_dim, value_dim;
  int64_t group() const { return value_heads / key_heads; }
  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t mixed() const { return 2 * keys() + values(); }
};

/// Projections of all tokens: [q | k | v], z, b and a, each over all heads.
struct Projected {
  std::vector<float> mixed, z, b, a;
};

std::vector<float> project(const Checkpoint& model, const Linear& w, const float* in, int64_t n) {
  std::vector<float> out(size_t(n * w.rows()));
  linear(model, w, in, n, out.data());
  return out;
}

/// Splits the projections of qwen3_next, where q, k, v and z of a key head and its value heads are adjacent,
/// and so are b and a.
Projected take_apart(const Sizes& s, const std::vector<float>& qkvz, const std::vector<float>& ba,
                     int64_t n) {
  Projected out;
  out.mixed.resize(size_t(n * s.mixed()));
  out.z.resize(size_t(n * s.values()));
  out.b.resize(size_t(n * s.value_heads));
  out.a.resize(out.b.size());
  const int64_t wide = s.group() * s.value_dim;
  for (int64_t t = 0; t < n; ++t) {
    const float* from = qkvz.data() + t * (s.mixed() + s.values());
    const float* gates = ba.data() + t * 2 * s.value_heads;
    float* mixed = out.mixed.data() + t * s.mixed();
    for (int64_t h = 0; h < s.key_heads; ++h) {
      std::copy_n(from, s.key_dim, mixed + h * s.key_dim);
      std::copy_n(from + s.key_dim, s.key_dim, mixed + s.keys() + h * s.key_dim);
      std::copy_n(from + 2 * s.key_dim, wide, mixed + 2 * s.keys() + h * wide);
      std::copy_n(from + 2 * s.key_dim + wide, wide, out.z.data() + t * s.values() + h * wide);
      from += 2 * s.key_dim + 2 * wide;
      std::copy_n(gates, s.group(), out.b.data() + t * s.value_heads + h * s.group());
      std::copy_n(gates + s.group(), s.group(), out.a.data() + t * s.value_heads + h * s.group());
      gates += 2 * s.group();
    }
  }
  return out;
}

std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  tensor.read(0, tensor.elements(), out.data());
  return out;
}

/// silu of a causal convolution: every column of x (n, cols) over the last `kernel` tokens of its chunk.
/// weights (cols, kernel).
std::vector<float> convolve(const Tensor& weights, const std::vector<float>& x, int64_t n, int64_t chunk) {
  const int64_t cols = weights.shape[0], kernel = weights.shape[2];
  const std::vector<float> w = values_of(weights);
  std::vector<float> out(x.size());
  share(size_t(n), double(n * cols * kernel), [&](size_t token) {
    const int64_t t = int64_t(token), seen = std::min(kernel, t % chunk + 1);
    for (int64_t c = 0; c < cols; ++c) {
      float sum = 0;
      for (int64_t j = kernel - seen; j < kernel; ++j)
        sum += w[size_t(c * kernel + j)] * x[size_t((t - kernel + 1 + j) * cols + c)];
      out[size_t(t * cols + c)] = sum / (1 + std::exp(-sum));
    }
  });
  return out;
}

/// Divides x (dim) by its length.
void make_unit(float* x, int64_t dim) {
  constexpr float kEps = 1e-6f;
  float squares = 0;
  for (int64_t i = 0; i < dim; ++i) squares += x[i] * x[i];
  const float scale = 1 / std::sqrt(squares + kEps);
  for (int64_t i = 0; i < dim; ++i) x[i] *= scale;
}

/// The recurrence of one value head over tokens [first, first + n). out: value_dim numbers a token, tokens
/// values() apart.
void recur(const Sizes& s, const Projected& p, float decay_rate, float dt_bias, int64_t head, int64_t first,
           int64_t n, float* out) {
  std::vector<float> state(size_t(s.key_dim * s.value_dim), 0.0f), q(size_t(s.key_dim)), k(q),
      change(size_t(s.value_dim));
  for (int64_t t = first; t < first + n; ++t) {
    const float* mixed = p.mixed.data() + t * s.mixed();
    std::copy_n(mixed + head / s.group() * s.key_dim, s.key_dim, q.data());
    std::copy_n(mixed + s.keys() + head / s.group() * s.key_dim, s.key_dim, k.data());
    const float* v = mixed + 2 * s.keys() + head * s.value_dim;
    make_unit(q.data(), s.key_dim);
    make_unit(k.data(), s.key_dim);
    const float step = p.a[size_t(t * s.value_heads + head)] + dt_bias;
    const float softplus = step > 20 ? step : std::log1p(std::exp(step));
    const float decay = std::exp(-decay_rate * softplus);
    const float beta = 1 / (1 + std::exp(-p.b[size_t(t * s.value_heads + head)]));
    std::fill(change.begin(), change.end(), 0.0f);
    for (int64_t i = 0; i < s.key_dim; ++i) {
      float* row = state.data() + i * s.value_dim;
      for (int64_t j = 0; j < s.value_dim; ++j) {
        row[j] *= decay;
        change[size_t(j)] += row[j] * k[size_t(i)];
      }
    }
    for (int64_t j = 0; j < s.value_dim; ++j) change[size_t(j)] = beta * (v[j] - change[size_t(j)]);
    float* to = out + t * s.values() + head * s.value_dim;
    std::fill_n(to, s.value_dim, 0.0f);
    const float scale = 1 / std::sqrt(float(s.key_dim));
    for (int64_t i = 0; i < s.key_dim; ++i) {
      float* row = state.data() + i * s.value_dim;
      for (int64_t j = 0; j < s.value_dim; ++j) {
        row[j] += k[size_t(i)] * change[size_t(j)];
        to[j] += row[j] * (q[size_t(i)] * scale);
      }
    }
  }
}

}  // namespace

void delta_net(const Checkpoint& model, const DeltaWeights& w, const float* in, int64_t n, int64_t chunk,
               float* y) {
  const DeltaConfig& d = model.config().delta;
  const Sizes s{d.n_key_heads, d.n_value_heads, d.key_dim, d.value_dim};
  Projected p;
  if (d.fused) {
    p = take_apart(s, project(model, w.in[0], in, n), project(model, w.in[1], in, n), n);
  } else {
    p = {project(model, w.in[0], in, n), project(model, w.in[1], in, n), project(model, w.in[2], in, n),
         project(model, w.in[3], in, n)};
  }
  p.mixed = convolve(w.conv, p.mixed, n, chunk);
  const std::vector<float> decay = values_of(w.decay), dt_bias = values_of(w.dt_bias);
  std::vector<float> heads(size_t(n * s.values()));  // (T, value heads, value_dim)
  const int64_t chunks = (n + chunk - 1) / chunk;
  share(size_t(chunks * s.value_heads), 3.0 * double(n * s.values() * s.key_dim), [&](size_t i) {
    const int64_t first = int64_t(i) / s.value_heads * chunk, head = int64_t(i) % s.value_heads;
    recur(s, p, std::exp(decay[size_t(head)]), dt_bias[size_t(head)], head, first, std::min(chunk, n - first),
          heads.data());
  });
  rms_norm(w.norm, model.config().rms_eps, heads.data(), s.value_dim, n * s.value_heads, heads.data(),
           s.value_dim);
  silu_times(p.z.data(), heads.data(), int64_t(heads.size()));
  linear(model, w.out, p.z.data(), n, y);
}

}  // namespace blockgtq
