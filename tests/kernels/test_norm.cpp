#include "device_arrays.h"
#include "kernels/forward/norm.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr float kEps = 1e-5f;

std::vector<double> twin(const std::vector<float>& x, int64_t stride, int64_t n, int64_t dim,
                         const std::vector<float>& weight) {
  std::vector<double> out;
  for (int64_t t = 0; t < n; ++t) {
    double squares = 0;
    for (int64_t i = 0; i < dim; ++i) squares += std::pow(double(x[size_t(t * stride + i)]), 2);
    const double scale = 1 / std::sqrt(squares / double(dim) + double(kEps));
    for (int64_t i = 0; i < dim; ++i) out.push_back(x[size_t(t * stride + i)] * scale * weight[size_t(i)]);
  }
  return out;
}

// A thread adds up to dim / 256 = 32 squares (or 512 / 32 = 16), the tree 5 + 8 more, each addition of
// positive terms within 2^-24: 45 * 2^-24 on the sum, half of that on the root, and five more roundings.
constexpr double kTolerance = 28 * 0x1p-24;

void check_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  REQUIRE(got.size() == want.size());
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]) / std::max(std::abs(want[i]), 1e-3);
    if (!(error <= worst)) worst = error;  // NaN stays
    if (std::isnan(error)) break;
  }
  CHECK(worst <= tolerance);
}

}  // namespace

TEST_CASE("RMSNorm agrees with its twin at every width, in float32 and rounded") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t dim : {1, 31, 64, 128, 511, 512, 513, 2048, 8192}) {
    for (const int64_t n : {1, 7, 8, 9, 65}) {
      for (const cuda::FloatType type : kFloatTypes) {
        INFO("dim " << dim << ", n " << n << ", type " << int(type));
        const int64_t stride = dim + n % 3;
        const std::vector<float> x = random.normal(n * stride), weight = random.normal(dim);
        const cuda::Buffer dx = to_device(x, stream), dw = to_device(weight, stream);
        const cuda::Buffer y = poisoned(n * dim * 4, stream),
                           low = poisoned(n * dim * cuda::bytes_of(type), stream);
        cuda::Norm norm;
        norm.x = dx.as<float>();
        norm.x_stride = stride;
        norm.n = n;
        norm.dim = dim;
        norm.weight = dw.as<float>();
        norm.eps = kEps;
        norm.y = y.as<float>();
        norm.y_stride = dim;
        norm.low = low.as();
        norm.low_type = type;
        cuda::norm(norm, stream);
        const std::vector<double> want = twin(x, stride, n, dim, weight);
        check_near(to_host<float>(y.as(), n * dim, stream), want, kTolerance);
        const auto bytes = to_host<unsigned char>(low.as(), n * dim * cuda::bytes_of(type), stream);
        check_near(decode(bytes, type), want, kTolerance + half_unit(type));
      }
    }
  }
}

TEST_CASE("RMSNorm works in place and leaves the gaps between rows alone") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t dim : {128, 1536}) {
    const int64_t n = 33, stride = dim + 5;
    const std::vector<float> x = random.normal(n * stride), weight = random.normal(dim);
    const cuda::Buffer dx = to_device(x, stream), dw = to_device(weight, stream);
    cuda::Norm norm;
    norm.x = dx.as<float>();
    norm.x_stride = stride;
    norm.n = n;
    norm.dim = dim;
    norm.weight = dw.as<float>();
    norm.eps = kEps;
    norm.y = dx.as<float>();
    norm.y_stride = stride;
    cuda::norm(norm, stream);
    const auto got = to_host<float>(dx.as(), n * stride, stream);
    std::vector<float> rows;
    for (int64_t t = 0; t < n; ++t) {
      rows.insert(rows.end(), got.begin() + t * stride, got.begin() + t * stride + dim);
      for (int64_t i = dim; i < stride; ++i) CHECK(got[size_t(t * stride + i)] == x[size_t(t * stride + i)]);
    }
    check_near(rows, twin(x, stride, n, dim, weight), kTolerance);
  }
}

namespace {

/// A layer norm, with offset and bias.
std::vector<double> centered_twin(const std::vector<float>& x, int64_t n, int64_t dim,
                                  const std::vector<float>& weight, double offset,
                                  const std::vector<float>& bias) {
  std::vector<double> out;
  for (int64_t t = 0; t < n; ++t) {
    const float* row = &x[size_t(t * dim)];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < dim; ++i) sum += double(row[i]);
    const double mean = sum / double(dim);
    for (int64_t i = 0; i < dim; ++i) squares += std::pow(double(row[i]) - mean, 2);
    const double scale = 1 / std::sqrt(squares / double(dim) + double(kEps));
    for (int64_t i = 0; i < dim; ++i)
      out.push_back((double(row[i]) - mean) * scale * (double(weight[size_t(i)]) + offset) +
                    (bias.empty() ? 0 : double(bias[size_t(i)])));
  }
  return out;
}

}  // namespace

TEST_CASE("layer norms, offsets and biases agree with their twin, set or added") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t dim : {33, 512, 513, 3072}) {
    for (const bool has_bias : {false, true}) {
      for (const bool add : {false, true}) {
        const int64_t n = 37;
        const float offset = has_bias ? 0 : 1, scale = 0.6f;
        INFO("dim " << dim << (has_bias ? ", bias" : ", offset") << (add ? ", added" : ""));
        std::vector<float> x = random.normal(n * dim), weight = random.normal(dim), bias;
        for (float& one : x) one += 3;
        if (has_bias) bias = random.normal(dim);
        const std::vector<float> before = random.normal(n * dim);
        const cuda::Buffer dx = to_device(x, stream), dw = to_device(weight, stream),
                           db = to_device(bias, stream), y = to_device(before, stream);
        if (!add) poison(y, n * dim * 4, stream);
        cuda::Norm norm;
        norm.x = dx.as<float>();
        norm.x_stride = norm.dim = norm.y_stride = dim;
        norm.n = n;
        norm.weight = dw.as<float>();
        if (has_bias) norm.bias = db.as<float>();
        norm.offset = offset;
        norm.eps = kEps;
        norm.centered = true;
        norm.y = y.as<float>();
        norm.add = add;
        norm.scale = scale;
        cuda::norm(norm, stream);
        std::vector<double> want = centered_twin(x, n, dim, weight, double(offset), bias);
        if (add)
          for (size_t i = 0; i < want.size(); ++i) want[i] = double(before[i]) + double(scale) * want[i];
        // A mean of 3 is off by a few of its units, 2^-22, and the differences from it are of the size of
        // one.
        CHECK(distance(to_host<float>(y.as(), n * dim, stream), want) <= 2e-6);
      }
    }
  }
}
