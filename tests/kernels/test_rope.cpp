#include "device_arrays.h"
#include "kernels/forward/rope.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("RoPE turns every block by its position's angle and nothing else") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  struct Case {
    BlockLayout layout;
    int64_t n, heads, chunk;
  };
  const Case cases[] = {
      {{128, 128, Pairing::half}, 300, 3, 128},      {{64, 64, Pairing::interleaved}, 77, 1, 77},
      {{128, 64, Pairing::interleaved}, 65, 40, 64}, {{80, 20, Pairing::half}, 5, 2, 3},
      {{256, 256, Pairing::half}, 1, 1, 1},
  };
  for (const Case& c : cases) {
    const int64_t dim = c.layout.head_dim, blocks = c.layout.n_rotary();
    const int64_t head_stride = dim + 3, stride = c.heads * head_stride + 1;
    INFO("dim " << dim << ", R " << c.layout.rotary_dim << ", " << name(c.layout.pairing));
    const int64_t length = std::min(c.n, c.chunk);
    std::vector<float> cos, sin;
    for (int64_t i = 0; i < length * blocks; ++i) {
      const double angle = 6.28 * double(random.below(1 << 20)) / (1 << 20);
      cos.push_back(float(std::cos(angle)));
      sin.push_back(float(std::sin(angle)));
    }
    const std::vector<float> x = random.normal(c.n * stride);
    const cuda::Buffer dx = to_device(x, stream), dcos = to_device(cos, stream),
                       dsin = to_device(sin, stream);
    const cuda::RopeTable table{c.layout, length, dcos.as<float>(), dsin.as<float>()};
    cuda::rope(table, {dx.as<float>(), stride, head_stride}, c.n, c.heads, c.chunk, stream);
    const auto got = to_host<float>(dx.as(), c.n * stride, stream);

    std::vector<double> want(x.begin(), x.end());
    for (int64_t t = 0; t < c.n; ++t) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int b = 0; b < blocks; ++b) {
          const auto [i, j] = c.layout.coords(b);
          const size_t at = size_t(t * stride + h * head_stride), row = size_t(t % c.chunk * blocks + b);
          want[at + size_t(i)] = double(x[at + size_t(i)]) * cos[row] - double(x[at + size_t(j)]) * sin[row];
          want[at + size_t(j)] = double(x[at + size_t(j)]) * cos[row] + double(x[at + size_t(i)]) * sin[row];
        }
      }
    }
    // Two products and a sum of values below 8: within 3 * 8 * 2^-24. What does not turn stays as it is.
    double worst = 0;
    for (size_t i = 0; i < got.size(); ++i) worst = worse(worst, std::abs(double(got[i]) - want[i]));
    CHECK(worst <= 24 * 0x1p-24);
  }
}
