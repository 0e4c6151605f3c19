#include "device_arrays.h"
#include "kernels/forward/blas.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Shape {
  int64_t rows, cols, n;
};

/// Inputs rounded to the type, so that only the product itself is on trial. The rows of y are apart.
struct Trial {
  Shape s;
  cuda::FloatType type;
  int64_t stride;
  std::vector<float> w, x, y;

  Trial(const Shape& shape, cuda::FloatType t, Random& random) : s(shape), type(t), stride(shape.rows + 3) {
    w = rounded(random.normal(s.rows * s.cols), type);
    x = rounded(random.normal(s.n * s.cols), type);
    y = random.normal(s.n * stride);
  }

  std::vector<double> twin(bool add) const {
    std::vector<double> out(y.begin(), y.end());
    for (int64_t t = 0; t < s.n; ++t) {
      for (int64_t r = 0; r < s.rows; ++r) {
        double sum = add ? double(y[size_t(t * stride + r)]) : 0;
        for (int64_t i = 0; i < s.cols; ++i)
          sum += double(x[size_t(t * s.cols + i)]) * w[size_t(r * s.cols + i)];
        out[size_t(t * stride + r)] = sum;
      }
    }
    return out;
  }

  std::vector<float> run(cuda::Blas& blas, bool add, const cuda::Stream& stream) const {
    const cuda::Buffer dw = to_device(encode(w, type), stream), dx = to_device(encode(x, type), stream);
    const cuda::Buffer dy = to_device(y, stream);
    blas.multiply({dw.as(), dx.as(), dy.as<float>(), s.rows, s.cols, s.n, stride, type, add}, stream);
    return to_host<float>(dy.as(), s.n * stride, stream);
  }
};

}  // namespace

TEST_CASE("cuBLASLt of the toolkit built with is found, on a machine without a GPU too") {
  const std::string runtime = cuda::probe_devices().runtime;  // 13.0
  CHECK_THAT(cuda::describe_blas(),
             ContainsSubstring("cuBLASLt " + runtime.substr(0, runtime.find('.') + 1)));
}

TEST_CASE("products agree with their twin, keep what lies between rows, and repeat bit for bit") {
  if (!has_device()) return;
  cuda::Stream stream;
  cuda::Blas blas;
  Random random;
  INFO("seed " << random.seed);
  const Shape any[] = {{33, 65, 7}, {1, 1, 1}, {256, 3, 1}, {7, 1000, 129}};  // float32
  const Shape even[] = {
      {64, 8, 3}, {256, 128, 1}, {512, 1024, 129}, {1536, 160, 33}, {96, 4096, 5}};  // all types
  for (const cuda::FloatType type : kFloatTypes) {
    std::vector<Shape> shapes(std::begin(even), std::end(even));
    if (type == cuda::FloatType::f32) shapes.insert(shapes.end(), std::begin(any), std::end(any));
    for (const Shape& s : shapes) {
      for (const bool add : {false, true}) {
        INFO("type " << int(type) << ", rows " << s.rows << ", cols " << s.cols << ", n " << s.n << ", add "
                     << add);
        const Trial trial(s, type, random);
        const std::vector<float> got = trial.run(blas, add, stream);
        // A float32 sum of 4096 products is within 1e-6 or so of itself; TF32 would be 3e-4 off. The tensor
        // cores cut off where they add, which costs a few bits more.
        CHECK(distance(got, trial.twin(add)) <= (type == cuda::FloatType::f32 ? 5e-6 : 5e-5));
        int64_t touched = 0;
        for (int64_t t = 0; t < s.n; ++t)
          for (int64_t i = s.rows; i < trial.stride; ++i)
            touched += got[size_t(t * trial.stride + i)] != trial.y[size_t(t * trial.stride + i)];
        CHECK(touched == 0);
        CHECK(trial.run(blas, add, stream) == got);
        cuda::Blas another;
        CHECK(trial.run(another, add, stream) == got);
      }
    }
  }
}

TEST_CASE("a weight may lie there with rows and columns changed over") {
  if (!has_device()) return;
  cuda::Stream stream;
  cuda::Blas blas;
  Random random;
  INFO("seed " << random.seed);
  for (const cuda::FloatType type : kFloatTypes) {
    for (const Shape& s : {Shape{64, 24, 3}, {96, 4096, 5}, {512, 1024, 129}}) {
      INFO("type " << int(type) << ", rows " << s.rows << ", cols " << s.cols << ", n " << s.n);
      const Trial trial(s, type, random);
      std::vector<float> turned(trial.w.size());
      for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t i = 0; i < s.cols; ++i) turned[size_t(i * s.rows + r)] = trial.w[size_t(r * s.cols + i)];
      const cuda::Buffer dw = to_device(encode(turned, type), stream),
                         dx = to_device(encode(trial.x, type), stream), dy = to_device(trial.y, stream);
      cuda::Product product{dw.as(), dx.as(), dy.as<float>(), s.rows, s.cols, s.n, trial.stride, type, true};
      product.transposed = true;
      blas.multiply(product, stream);
      CHECK(distance(to_host<float>(dy.as(), s.n * trial.stride, stream), trial.twin(true)) <=
            (type == cuda::FloatType::f32 ? 5e-6 : 5e-5));
    }
  }
}

TEST_CASE("an operand may begin at any element of an array") {
  if (!has_device()) return;
  cuda::Stream stream;
  cuda::Blas blas;
  Random random;
  INFO("seed " << random.seed);
  // Rows of 24 bf16 values are 48 bytes: 16-byte alignment, from whichever row.
  Trial trial({40, 24, 9}, cuda::FloatType::bf16, random);
  const cuda::Buffer dw = to_device(encode(trial.w, trial.type), stream),
                     dx = to_device(encode(trial.x, trial.type), stream), dy = to_device(trial.y, stream);
  blas.multiply({dw.as<std::byte>() + 7 * 24 * 2, dx.as<std::byte>() + 3 * 24 * 2, dy.as<float>() + 1, 33, 24,
                 6, trial.stride, trial.type, false},
                stream);
  std::vector<double> want(trial.y.begin(), trial.y.end());
  for (int64_t t = 0; t < 6; ++t) {
    for (int64_t r = 0; r < 33; ++r) {
      double& sum = want[size_t(1 + t * trial.stride + r)] = 0;
      for (int64_t i = 0; i < 24; ++i)
        sum += double(trial.x[size_t((t + 3) * 24 + i)]) * trial.w[size_t((r + 7) * 24 + i)];
    }
  }
  CHECK(distance(to_host<float>(dy.as(), int64_t(trial.y.size()), stream), want) <= 5e-5);
}
