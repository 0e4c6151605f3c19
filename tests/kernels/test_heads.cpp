#include "device_arrays.h"
#include "kernels/forward/bias.h"
#include "kernels/forward/heads.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("heads are copied between any strides, and one head to many") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const int64_t n = 37, heads = 5, width = 33;
  for (const bool same : {false, true}) {
    const int64_t from_head = same ? 0 : width + 4, from_stride = heads * (width + 4) + 1;
    const int64_t to_head = width + 2, to_stride = heads * to_head + 3;
    const std::vector<float> in = random.normal(n * from_stride);
    const cuda::Buffer from = to_device(in, stream), to = poisoned(n * to_stride * 4, stream);
    cuda::copy_heads({from.as<float>(), from_stride, from_head}, {to.as<float>(), to_stride, to_head}, n,
                     heads, width, stream);
    const auto got = to_host<float>(to.as(), n * to_stride, stream);
    int64_t written = 0, wrong = 0;
    for (int64_t t = 0; t < n; ++t)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < width; ++i)
          wrong +=
              got[size_t(t * to_stride + h * to_head + i)] != in[size_t(t * from_stride + h * from_head + i)];
    for (const float value : got) written += !std::isnan(value);
    CHECK(wrong == 0);
    CHECK(written == n * heads * width);
  }
}

TEST_CASE("a bias is added to every row, and not between them") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t cols : {1, 255, 256, 257, 3000}) {
    const float scale = cols % 2 ? 1 : 0.25f;
    const int64_t n = 19, stride = cols + 2;
    const std::vector<float> y = random.normal(n * stride), bias = random.normal(cols);
    const cuda::Buffer dy = to_device(y, stream), db = to_device(bias, stream);
    cuda::add_bias(dy.as<float>(), stride, n, cols, db.as<float>(), scale, stream);
    std::vector<float> want = y;
    for (int64_t t = 0; t < n; ++t)
      for (int64_t i = 0; i < cols; ++i) want[size_t(t * stride + i)] += scale * bias[size_t(i)];
    CHECK(to_host<float>(dy.as(), n * stride, stream) == want);  // one rounding: the same bits
  }
}
