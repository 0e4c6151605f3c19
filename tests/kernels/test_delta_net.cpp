#include "device_arrays.h"
#include "kernels/forward/delta_net.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("the causal convolution agrees with its twin and begins anew with every chunk") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t cols : {1, 256, 300}) {
    for (const int64_t kernel : {1, 4}) {
      const int64_t n = 50, chunk = 17;
      const std::vector<float> x = random.normal(n * cols), weight = random.normal(cols * kernel);
      const cuda::Buffer dx = to_device(x, stream), dw = to_device(weight, stream),
                         y = poisoned(n * cols * 4, stream);
      cuda::convolve({dx.as<float>(), dw.as<float>(), n, chunk, cols, kernel, y.as<float>()}, stream);
      std::vector<double> want;
      for (int64_t t = 0; t < n; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          double sum = 0;
          for (int64_t back = 0; back < kernel && back <= t % chunk; ++back)
            sum += double(weight[size_t(c * kernel + kernel - 1 - back)]) *
                   double(x[size_t((t - back) * cols + c)]);
          want.push_back(sum / (1 + std::exp(-sum)));
        }
      }
      INFO("cols " << cols << ", kernel " << kernel);
      CHECK(distance(to_host<float>(y.as(), n * cols, stream), want) <= 1e-6);
    }
  }
}

namespace {

struct Net {
  int64_t n, chunk, key_heads, value_heads, key_dim, value_dim, out_stride;
  std::vector<float> mixed{}, a{}, b{}, decay{}, dt_bias{};

  int64_t keys() const { return key_heads * key_dim; }
  int64_t width() const { return 2 * keys() + value_heads * value_dim; }
};

std::vector<double> unit(const float* x, int64_t dim) {
  std::vector<double> out(x, x + dim);
  double squares = 1e-6;
  for (const double one : out) squares += one * one;
  for (double& one : out) one /= std::sqrt(squares);
  return out;
}

/// (T, value_heads, value_dim)
std::vector<double> twin(const Net& r) {
  std::vector<double> out(size_t(r.n * r.value_heads * r.value_dim));
  for (int64_t h = 0; h < r.value_heads; ++h) {
    std::vector<double> state;
    for (int64_t t = 0; t < r.n; ++t) {
      if (t % r.chunk == 0) state.assign(size_t(r.key_dim * r.value_dim), 0);
      const float* row = &r.mixed[size_t(t * r.width())];
      const int64_t key_head = h / (r.value_heads / r.key_heads);
      const std::vector<double> q = unit(row + key_head * r.key_dim, r.key_dim),
                                k = unit(row + r.keys() + key_head * r.key_dim, r.key_dim);
      const double step = double(r.a[size_t(t * r.value_heads + h)]) + double(r.dt_bias[size_t(h)]);
      const double decay = std::exp(-std::exp(double(r.decay[size_t(h)])) * std::log1p(std::exp(step)));
      const double beta = 1 / (1 + std::exp(-double(r.b[size_t(t * r.value_heads + h)])));
      for (double& one : state) one *= decay;
      for (int64_t j = 0; j < r.value_dim; ++j) {
        double seen = 0, result = 0;
        for (int64_t i = 0; i < r.key_dim; ++i) seen += state[size_t(i * r.value_dim + j)] * k[size_t(i)];
        const double change = beta * (double(row[2 * r.keys() + h * r.value_dim + j]) - seen);
        for (int64_t i = 0; i < r.key_dim; ++i)
          result += (state[size_t(i * r.value_dim + j)] += k[size_t(i)] * change) * q[size_t(i)];
        out[size_t((t * r.value_heads + h) * r.value_dim + j)] = result / std::sqrt(double(r.key_dim));
      }
    }
  }
  return out;
}

std::vector<float> run(const Net& r, const cuda::Stream& stream) {
  const cuda::Buffer mixed = to_device(r.mixed, stream), a = to_device(r.a, stream),
                     b = to_device(r.b, stream), decay = to_device(r.decay, stream),
                     dt_bias = to_device(r.dt_bias, stream);
  const int64_t values = r.n * r.value_heads * r.out_stride;
  const cuda::Buffer out = poisoned(values * 4, stream);
  cuda::delta_rule(
      {r.n, r.chunk, r.key_heads, r.value_heads, r.key_dim, r.value_dim, mixed.as<float>(), a.as<float>(),
       b.as<float>(), decay.as<float>(), dt_bias.as<float>(), out.as<float>(), r.out_stride},
      stream);
  return to_host<float>(out.as(), values, stream);
}

}  // namespace

TEST_CASE("the gated delta rule agrees with its twin") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const Net nets[] = {{70, 33, 2, 4, 8, 6, 6},     {100, 100, 1, 1, 32, 64, 128},
                      {65, 64, 2, 2, 33, 65, 70},  {200, 128, 2, 6, 128, 128, 256},
                      {5, 1, 1, 2, 100, 200, 200}, {3, 10, 1, 1, 1, 1, 2}};
  for (Net net : nets) {
    net.mixed = random.normal(net.n * net.width());
    net.a = random.normal(net.n * net.value_heads, 2);
    net.a[0] = 50;  // softplus(50) is 50
    net.b = random.normal(net.n * net.value_heads, 2);
    net.decay = random.normal(net.value_heads);
    net.dt_bias = random.normal(net.value_heads);
    INFO("n " << net.n << ", key_dim " << net.key_dim << ", value_dim " << net.value_dim);
    const std::vector<float> got = run(net, stream);
    std::vector<float> heads;
    int64_t touched = 0;
    for (size_t at = 0; at < got.size(); at += size_t(net.out_stride)) {
      heads.insert(heads.end(), got.begin() + long(at), got.begin() + long(at) + net.value_dim);
      for (int64_t i = net.value_dim; i < net.out_stride; ++i) touched += !std::isnan(got[at + size_t(i)]);
    }
    CHECK(touched == 0);
    // Sums of up to 128 products with unit vectors, token after token: what is rounded decays with the state.
    CHECK(distance(heads, twin(net)) <= 5e-6);
    CHECK(std::memcmp(run(net, stream).data(), got.data(), got.size() * sizeof(float)) == 0);
  }
}
