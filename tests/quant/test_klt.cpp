#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "catch.h"
#include "quant/bit_map.h"
#include "quant/klt.h"
#include "quant/linear_quantizer.h"
#include "quant/methods.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

using Matrix = std::vector<double>;  // (d, d)

Matrix product(const Matrix& a, const Matrix& b, int d, bool transpose_b = false) {
  Matrix c(size_t(d) * d);
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j)
      for (int k = 0; k < d; ++k) c[i * d + j] += a[i * d + k] * (transpose_b ? b[j * d + k] : b[k * d + j]);
  return c;
}

Matrix gaussian(int rows, int cols, uint64_t seed) {
  Random random(seed);
  Matrix m(size_t(rows) * cols);
  for (double& x : m) x = random.standard_normal();
  return m;
}

}  // namespace

TEST_CASE("the value basis makes weighted values independent, in order of size") {
  const int d = 8;
  const Matrix a = gaussian(d, d, 1), b = gaussian(d, d, 2), weight = product(a, a, d, true),
               covariance = product(b, b, d, true);
  const KltBasis basis = klt_basis(weight, covariance);
  const Matrix one = product(basis.backward, basis.forward, d);
  const Matrix diagonal = product(product(basis.forward, covariance, d), basis.forward, d, true);
  // forward^T forward = S U U^T S = weight: an error of z weighs as W_o weighs that of v
  Matrix transposed(d * d);
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) transposed[i * d + j] = basis.forward[j * d + i];
  const Matrix back = product(transposed, basis.forward, d);
  const double scale = basis.energy[0];
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) {
      CHECK(one[i * d + j] == Approx(i == j).margin(1e-9));
      CHECK(diagonal[i * d + j] == Approx(i == j ? basis.energy[i] : 0).margin(1e-11 * scale));
      CHECK(back[i * d + j] == Approx(weight[i * d + j]).margin(1e-10 * scale));
    }
  for (int i = 0; i + 1 < d; ++i) CHECK(basis.energy[i] >= basis.energy[i + 1]);
}

TEST_CASE("bits by marginal gain: zero bits for what hardly matters") {
  const std::vector<double> energy = {1000, 100, 1, 1e-9};
  const auto bits = allocate_by_gain(energy, 2);
  CHECK(std::accumulate(bits.begin(), bits.end(), 0) == 8);
  CHECK(bits[0] > bits[1]);
  CHECK(bits[3] == 0);
  // against all ways to spend 8 bits: the marginal gains fall with every bit, so greedy is the optimum
  const auto cost = [&](const std::vector<uint8_t>& b) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += energy[i] * exact_distortion(128, b[i]);
    return sum;
  };
  double best = 1e300;
  for (int i = 0; i < 9 * 9 * 9; ++i) {
    const int last = 8 - i % 9 - i / 9 % 9 - i / 81;
    if (last < 0) continue;
    best = std::min(best, cost({uint8_t(i % 9), uint8_t(i / 9 % 9), uint8_t(i / 81), uint8_t(last)}));
  }
  CHECK(cost(bits) == Approx(best).epsilon(1e-12));
  CHECK(allocate_by_gain(std::vector<double>{1, 1}, 8) == std::vector<uint8_t>{8, 8});
  CHECK(allocate_by_gain(std::vector<double>{0, 0}, 1) == std::vector<uint8_t>{2, 0});
}

TEST_CASE("bits of pairs where a width takes a norm: the best of all ways, and widths of 0 take none") {
  const std::vector<double> energy = {1000, 100, 1, 1e-9};
  const auto error_of = [&](const std::vector<uint8_t>& bits) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += energy[i] * exact_distortion(128, bits[i]);
    return sum;
  };
  const auto cost_of = [](const std::vector<uint8_t>& bits) {
    std::set<int> widths(bits.begin(), bits.end());
    widths.erase(0);
    return std::accumulate(bits.begin(), bits.end(), 8 * int(widths.size()));
  };
  for (const int capacity : {0, 8, 9, 15, 24, 40, 100}) {
    CAPTURE(capacity);
    const std::vector<uint8_t> bits = allocate_by_groups(energy, capacity, 8);
    double best = std::accumulate(energy.begin(), energy.end(), 0.0);
    for (int i = 0; i < 9 * 9 * 9 * 9; ++i) {
      const std::vector<uint8_t> other = {uint8_t(i % 9), uint8_t(i / 9 % 9), uint8_t(i / 81 % 9),
                                          uint8_t(i / 729)};
      if (cost_of(other) <= capacity) best = std::min(best, error_of(other));
    }
    REQUIRE(bits.size() == 4);
    CHECK(cost_of(bits) <= capacity);
    CHECK(error_of(bits) == Approx(best).epsilon(1e-12));
  }
}

TEST_CASE("a budget in bytes holds for keys and values by KLT") {
  constexpr int kDim = 32, kTokens = 200;
  Random random(17);
  Stats stats;
  stats.shape.n_layers = 1;
  stats.shape.n_heads = stats.shape.n_kv_heads = 2;
  stats.shape.v_dim = kDim;
  stats.shape.layout = {kDim, kDim, Pairing::half};
  stats.shape.ropes[0].inv_freq.assign(kDim / 2, 0.1);
  stats.shape.ropes[0].inv_freq_raw = stats.shape.ropes[0].inv_freq;
  stats.run_chunks = 1;
  std::vector<float> x[3];  // q, k, v (T, H, D): coordinates of very different size
  for (std::vector<float>& values : x)
    for (int i = 0; i < kTokens * 2 * kDim; ++i)
      values.push_back(float(std::exp(-0.2 * (i % kDim)) * random.standard_normal()));
  accumulate(stats, 0, 0, kTokens, x[0].data(), x[1].data(), x[2].data());
  stats.layers[0].output.resize(2 * kDim * kDim);
  for (int i = 0; i < 2 * kDim; ++i) stats.layers[0].output[i * kDim + i % kDim] = 1;

  for (const CostKind kind : {CostKind::packed, CostKind::page}) {
    ShareSpec spec;
    spec.allocator.cost.kind = kind;
    const BitMap map = make_bit_map(stats, {1.5, 2, 2.9, 4}, spec);
    for (const Budget& budget : map.budgets)
      for (int head = 0; head < 2; ++head) {
        CAPTURE(name(kind), budget.average_bits);
        const double bytes = budget.average_bits * kDim / 8;
        const HeadMap one = map.head(budget, 0, head);
        for (const size_t code :
             {make_key_quantizer("klt", one)->code_bytes(), make_value_quantizer("klt", one)->code_bytes()}) {
          // A page has 64 keys, a stream pads each to a byte.
          CHECK(double(code) < bytes + (kind == CostKind::packed ? 1e-9 : 1));
          CHECK(double(code) > bytes - 1.5);  // and it is spent
        }
      }
  }
}

TEST_CASE("values by KLT lose less of the layer's output than uniform codes") {
  const int d = 16;
  const size_t n = 500;
  // values of falling spread in rotated directions, weights likewise
  Matrix mix = gaussian(d, d, 3), weight = gaussian(d, d, 4);
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) mix[i * d + j] *= std::exp(-0.4 * j), weight[i * d + j] *= std::exp(-0.3 * i);
  Matrix transposed(d * d);
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) transposed[i * d + j] = weight[j * d + i];
  const Matrix moment = product(transposed, weight, d);
  Random random(5);
  std::vector<float> values;
  HeadCalibration calibration;
  calibration.v_mean.resize(d);
  for (size_t t = 0; t < n; ++t) {
    std::vector<double> z(d);
    for (double& x : z) x = random.standard_normal();
    for (int i = 0; i < d; ++i) {
      double v = 1;
      for (int j = 0; j < d; ++j) v += mix[i * d + j] * z[j];
      values.push_back(float(v));
      calibration.v_mean[i] += values.back() / double(n);
    }
  }
  Matrix covariance(d * d);
  for (size_t t = 0; t < n; ++t)
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j)
        covariance[i * d + j] += (values[t * d + i] - calibration.v_mean[i]) *
                                 (values[t * d + j] - calibration.v_mean[j]) / double(n);
  const KltBasis basis = klt_basis(moment, covariance);
  calibration.v_spectrum = basis.energy;
  calibration.v_forward.assign(basis.forward.begin(), basis.forward.end());
  calibration.v_backward.assign(basis.backward.begin(), basis.backward.end());
  std::vector<double> pairs;
  for (int p = 0; p < d / 2; ++p) pairs.push_back(basis.energy[2 * p] + basis.energy[2 * p + 1]);
  const std::vector<uint8_t> bits = allocate_by_gain(pairs, 2);
  HeadMap head;
  head.v_dim = d;
  head.average_bits = 2;
  head.value_bits = bits;
  head.calibration = &calibration;
  const auto error = [&](const char* method) {
    const auto quantizer = make_value_quantizer(method, head);
    std::vector<uint8_t> codes(quantizer->code_bytes(n));
    std::vector<float> back(values.size());
    quantizer->encode(values.data(), n, codes.data());
    quantizer->decode(codes.data(), n, back.data());
    double sum = 0;
    for (size_t t = 0; t < n; ++t)
      for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j)
          sum += (values[t * d + i] - back[t * d + i]) * moment[i * d + j] *
                 (values[t * d + j] - back[t * d + j]);
    return sum;
  };
  CHECK(make_value_quantizer("klt", head)->code_bytes() == 2 + 4);
  CHECK(make_value_quantizer("klt", head)->linear_code()->n_coords() < d);
  CHECK(error("klt") < 0.3 * error("tq-mse"));
  CHECK(error("tq-mse-centred") < error("tq-mse"));
}
