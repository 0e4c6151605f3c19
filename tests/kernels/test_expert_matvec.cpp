// Products with experts chosen on the device, and matrices put in order for them, against double precision.
#include "device_arrays.h"
#include "kernels/forward/expert_matvec.h"
#include "kernels/forward/reorder.h"

using namespace blockgtq;
using namespace blockgtq::test;
using cuda::FloatType;

namespace {

struct Case {
  FloatType type;
  int n_experts, each, n;
  int64_t rows, cols;  // of one expert's matrix
  bool normed = false, clamped = false;
};

/// Different experts of every token, some of them shared by tokens.
std::vector<int32_t> routes(const Case& c, Random& random) {
  std::vector<int32_t> out;
  for (int t = 0; t < c.n; ++t) {
    std::vector<int32_t> all;
    for (int e = 0; e < c.n_experts; ++e) all.push_back(e);
    std::shuffle(all.begin(), all.end(), random.engine);
    out.insert(out.end(), all.begin(), all.begin() + c.each);
  }
  return out;
}

struct Sum {
  double value = 0, size = 0;
};
/// A row of an expert's matrix times a vector, its bias included.
Sum row_times(const std::vector<float>& w, int64_t row, int64_t cols, const float* x, float bias) {
  Sum sum{bias, std::abs(double(bias))};
  for (int64_t k = 0; k < cols; ++k) {
    const double product = double(w[size_t(row * cols + k)]) * double(x[k]);
    sum.value += product;
    sum.size += std::abs(product);
  }
  return sum;
}

double open(const Case& c, double g, double u) {
  if (!c.clamped) return g / (1 + std::exp(-g)) * u;
  const double low = std::min(g, 1.5);
  return low / (1 + std::exp(-1.7 * low)) * (std::min(std::max(u, -1.5), 1.5) + 1);
}

struct Arrays {
  Arrays(const Case& c, bool gated, Random& random)
      : w(rounded(random.normal(c.n_experts * c.rows * c.cols, 1 / std::sqrt(float(c.cols))), c.type)),
        bias(random.normal(c.n_experts * c.rows)),
        x(random.normal((gated ? c.n : c.n * c.each) * c.cols)),
        norm(random.normal(c.cols)),
        weight(random.normal(c.n * c.each)),
        expert(routes(c, random)) {
    if (!gated) x = rounded(x, c.type);
  }
  std::vector<float> w, bias, x, norm, weight;
  std::vector<int32_t> expert;
};

cuda::MatVec product_of(const Case& c, const cuda::Buffer& w, const cuda::Buffer& bias) {
  cuda::MatVec p;
  p.w = w.as();
  p.type = c.type;
  p.rows = c.rows;
  p.cols = c.cols;
  p.n = c.n;
  p.bias = bias.as<float>();
  return p;
}

/// Relative to the sizes of what is added: rounded vectors and sums in float32.
double room(const Case& c, const Sum& sum, double rounding) {
  return sum.size * (rounding + double(c.cols) * 0x1p-24) + 1e-6 * (1 + std::abs(sum.value));
}

void check_gated(const Case& c) {
  CAPTURE(int(c.type), c.n_experts, c.each, c.n, c.rows, c.cols, c.normed, c.clamped);
  Random random;
  CAPTURE(random.seed);
  const cuda::Stream stream;
  const Arrays a(c, true, random);
  const int64_t width = c.rows / 2;
  const cuda::Buffer w = to_device(encode(a.w, c.type), stream), bias = to_device(a.bias, stream),
                     x = to_device(a.x, stream), norm = to_device(a.norm, stream),
                     expert = to_device(a.expert, stream),
                     out = poisoned(c.n * c.each * width * cuda::bytes_of(c.type), stream);
  cuda::ExpertMatVec job;
  job.product = product_of(c, w, bias);
  job.product.x = x.as<float>();
  job.product.gated = out.as();
  if (c.normed) {
    job.product.norm_weight = norm.as<float>();
    job.product.norm_offset = 1;
    job.product.norm_eps = 1e-5f;
  }
  if (c.clamped) job.product.activation = cuda::Activation::clamped;
  job.limit = 1.5f;
  job.alpha = 1.7f;
  job.n_per_token = c.each;
  job.expert = expert.as<int32_t>();
  cuda::expert_matvec(job, stream);
  const auto got = decode(to_host<unsigned char>(out.as(), int64_t(out.bytes()), stream), c.type);
  const double unit = half_unit(c.type), rounding = 2 * unit;
  for (int t = 0; t < c.n; ++t) {
    std::vector<float> v(a.x.begin() + t * c.cols, a.x.begin() + (t + 1) * c.cols);
    double squares = 0;
    for (const float value : v) squares += double(value) * value;
    const double root = 1 / std::sqrt(squares / double(c.cols) + 1e-5);
    for (int64_t k = 0; k < c.cols && c.normed; ++k)
      v[size_t(k)] = float(v[size_t(k)] * root * (a.norm[size_t(k)] + 1.0));
    v = rounded(v, c.type);
    for (int i = 0; i < c.each; ++i)
      for (int64_t r = 0; r < width; ++r) {
        const int64_t first = a.expert[size_t(t * c.each + i)] * c.rows;
        const Sum gate = row_times(a.w, first + r, c.cols, v.data(), a.bias[size_t(first + r)]),
                  up = row_times(a.w, first + width + r, c.cols, v.data(), a.bias[size_t(first + width + r)]);
        const double want = open(c, gate.value, up.value), of_gate = room(c, gate, rounding),
                     of_up = room(c, up, rounding);
        const double allowed = 1.4 * of_gate * (std::abs(up.value) + 1 + of_up) +
                               (std::abs(gate.value) + of_gate) * of_up + unit * std::abs(want) + 1e-6;
        REQUIRE(std::abs(double(got[size_t((t * c.each + i) * width + r)]) - want) <= allowed);
      }
  }
}

void check_added(const Case& c) {
  CAPTURE(int(c.type), c.n_experts, c.each, c.n, c.rows, c.cols);
  Random random;
  CAPTURE(random.seed);
  const cuda::Stream stream;
  const Arrays a(c, false, random);
  const std::vector<float> before = random.normal(c.n * c.rows);
  const cuda::Buffer w = to_device(encode(a.w, c.type), stream), bias = to_device(a.bias, stream),
                     x = to_device(encode(a.x, c.type), stream), weight = to_device(a.weight, stream),
                     expert = to_device(a.expert, stream);
  cuda::ExpertMatVec job;
  job.product = product_of(c, w, bias);
  job.product.x_low = x.as();
  job.product.add = true;
  job.product.scale = 0.5f;
  job.n_per_token = c.each;
  job.expert = expert.as<int32_t>();
  job.weight = weight.as<float>();
  const auto run = [&](int first, int n) {
    const cuda::Buffer y = to_device(before, stream);
    cuda::ExpertMatVec part = job;
    part.product.n = n;
    part.product.x_low = x.as<uint8_t>() + first * c.each * c.cols * cuda::bytes_of(c.type);
    part.product.y = y.as<float>() + first * c.rows;
    part.expert += first * c.each;
    part.weight += first * c.each;
    cuda::expert_matvec(part, stream);
    return to_host<float>(y.as(), c.n * c.rows, stream);
  };
  const std::vector<float> got = run(0, c.n);
  CHECK(run(0, c.n) == got);                         // the same bits
  const std::vector<float> alone = run(c.n - 1, 1);  // and whoever else is there
  CHECK(std::equal(got.end() - c.rows, got.end(), alone.end() - c.rows));
  for (int t = 0; t < c.n; ++t)
    for (int64_t r = 0; r < c.rows; ++r) {
      double want = before[size_t(t * c.rows + r)], allowed = 1e-6;
      for (int i = 0; i < c.each; ++i) {
        const auto visit = size_t(t * c.each + i);
        const int64_t row = a.expert[visit] * c.rows + r;
        const Sum sum = row_times(a.w, row, c.cols, &a.x[visit * size_t(c.cols)], a.bias[size_t(row)]);
        want += 0.5 * double(a.weight[visit]) * sum.value;
        allowed += std::abs(double(a.weight[visit])) * room(c, sum, 0x1p-24);
      }
      allowed += 1e-6 * std::abs(want);
      REQUIRE(std::abs(double(got[size_t(t * c.rows + r)]) - want) <= allowed);
    }
}

}  // namespace

TEST_CASE("products with the experts of a few tokens", "[matvec][experts]") {
  if (!has_device()) return;
  for (const FloatType type : kFloatTypes)
    for (const int n : {1, 3, 8, 9, 16}) {
      check_gated({type, 8, 2, n, 192, 128});
      check_gated({type, 40, 8, n, 24, 264, true});
      check_gated({type, 5, 3, n, 2 * 100, 1032, true, true});  // tiles that are not full
      check_added({type, 8, 2, n, 128, 96});
      check_added({type, 40, 8, n, 1000, 24});
      check_added({type, 5, 3, n, 12, 1032});
      check_added({type, 1, 1, n, 64, 160});
    }
  check_gated({FloatType::bf16, 64, 8, 2, 2 * 768, 2048, true});  // several tiles to a block
  check_added({FloatType::bf16, 64, 8, 2, 4096, 768});
  check_added({FloatType::f16, 128, 16, 16, 264, 64});
}

TEST_CASE("an expert that a token has twice counts once", "[matvec][experts]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  const int n = 16, each = 16;
  const int64_t rows = 16, cols = 32;
  const cuda::Buffer w = to_device(std::vector<float>(size_t(2 * rows * cols), 1.0f), stream),
                     x = to_device(std::vector<float>(size_t(n * each * cols), 1.0f), stream),
                     weight = to_device(std::vector<float>(size_t(n * each), 1.0f), stream),
                     expert = to_device(std::vector<int32_t>(size_t(n * each), 0), stream),
                     y = to_device(std::vector<float>(size_t(n * rows), 0.0f), stream);
  cuda::ExpertMatVec job;
  job.product.w = w.as();
  job.product.rows = rows;
  job.product.cols = cols;
  job.product.n = n;
  job.product.x_low = x.as();
  job.product.y = y.as<float>();
  job.product.add = true;
  job.n_per_token = each;
  job.expert = expert.as<int32_t>();
  job.weight = weight.as<float>();
  cuda::expert_matvec(job, stream);
  CHECK(to_host<float>(y.as(), n * rows, stream) == std::vector<float>(size_t(n * rows), float(cols)));
}

TEST_CASE("matrices from where they lie transposed, rows in turn", "[matvec][experts]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  Random random;
  CAPTURE(random.seed);
  for (const FloatType from : kFloatTypes)
    for (const FloatType to : kFloatTypes)
      for (const bool interleaved : {false, true})
        for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{6, 1}, {32, 32}, {70, 45}, {130, 300}}) {
          CAPTURE(int(from), int(to), interleaved, rows, cols);
          const std::vector<float> in = rounded(random.normal(rows * cols), from);
          const cuda::Buffer on_in = to_device(encode(in, from), stream),
                             out = poisoned(rows * cols * cuda::bytes_of(to), stream);
          cuda::reorder({on_in.as(), from, rows, cols, interleaved, out.as(), to}, stream);
          const auto got =
              decode(to_host<unsigned char>(out.as(), rows * cols * cuda::bytes_of(to), stream), to);
          std::vector<float> want(in.size());
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c)
              want[size_t((interleaved ? r / 2 + r % 2 * (rows / 2) : r) * cols + c)] =
                  in[size_t(c * rows + r)];
          CHECK(got == rounded(want, to));
        }
}
