#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"
#include "catch.h"
#include "quant/affine_code.h"
#include "quant/allocate.h"
#include "quant/centred.h"
#include "quant/fp8.h"
#include "quant/k_means.h"
#include "quant/kivi.h"
#include "quant/klt.h"
#include "quant/methods.h"
#include "quant/random.h"
#include "quant/turboquant_prod.h"

using namespace blockgtq;

namespace {

constexpr size_t kTokens = 300;

// Keys with a constant part ten times their spread and blocks of different energy, as models have them.
struct Sample {
  BlockLayout layout{32, 32, Pairing::half};
  std::vector<float> keys;  // (T, D)
  HeadCalibration calibration;
  std::vector<uint8_t> bits, product_bits, key_bits;
  HeadMap head;

  explicit Sample(double average = 3) {
    Random random(9);
    const int d = layout.head_dim;
    std::vector<double> mean(d), spread(layout.n_blocks());
    for (double& m : mean) m = 10 * random.standard_normal();
    for (double& s : spread) s = std::exp(random.standard_normal());
    for (size_t t = 0; t < kTokens; ++t)
      for (int j = 0; j < d; ++j)
        keys.push_back(float(mean[j] + spread[j % layout.n_blocks()] * random.standard_normal()));
    calibration.k_mean.resize(d);
    for (int b = 0; b < layout.n_blocks(); ++b)
      calibration.q_energy.push_back(std::exp(random.standard_normal()));
    calibration.k_energy.resize(layout.n_blocks());
    for (size_t t = 0; t < kTokens; ++t)
      for (int b = 0; b < layout.n_blocks(); ++b)
        for (const int c : layout.coords(b)) {
          const double k = keys[t * d + c];
          calibration.k_energy[b] += k * k / kTokens;
          calibration.k_mean[c] += k / kTokens;
        }
    const AllocateOptions options{average, 1, 8};
    bits = allocate_greedy(calibration.k_energy, options);
    product_bits = allocate_greedy(product_score(layout, calibration), options);
    find_basis(average);
    std::vector<float> centred = keys;
    for (size_t i = 0; i < keys.size(); ++i) centred[i] -= float(calibration.k_mean[i % d]);
    calibration.k_centres = k_means(centred, d, 4);
    head = {layout, 0, 42, average, bits, product_bits, key_bits, {}, &calibration};
  }

  void find_basis(double average) {
    const int d = layout.head_dim;
    std::vector<double> weight(d * d), covariance(d * d), pairs;
    for (int b = 0; b < layout.n_blocks(); ++b)
      for (const int c : layout.coords(b)) weight[c * d + c] = calibration.q_energy[b];
    for (size_t t = 0; t < kTokens; ++t)
      for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j)
          covariance[i * d + j] +=
              (keys[t * d + i] - calibration.k_mean[i]) * (keys[t * d + j] - calibration.k_mean[j]) / kTokens;
    const KltBasis basis = klt_basis(weight, covariance);
    calibration.k_spectrum = basis.energy;
    calibration.k_forward.assign(basis.forward.begin(), basis.forward.end());
    calibration.k_backward.assign(basis.backward.begin(), basis.backward.end());
    for (int p = 0; p < d / 2; ++p) pairs.push_back(basis.energy[2 * p] + basis.energy[2 * p + 1]);
    key_bits = allocate_by_gain(pairs, average);
  }
};

std::vector<float> round_trip(const Quantizer& quantizer, const std::vector<float>& x, size_t n) {
  std::vector<uint8_t> codes(quantizer.code_bytes(n), 0xaa), again(codes.size(), 0x55);
  quantizer.encode(x.data(), n, codes.data());
  quantizer.encode(x.data(), n, again.data());
  REQUIRE(codes == again);
  std::vector<float> y(n * quantizer.dim(), -99);
  quantizer.decode(codes.data(), n, y.data());
  return y;
}

// Query energy times key error, the expected squared logit error.
double weighted_error(const Sample& s, const std::vector<float>& y) {
  double sum = 0;
  const int d = s.layout.head_dim;
  for (size_t t = 0; t < kTokens; ++t)
    for (int b = 0; b < s.layout.n_blocks(); ++b)
      for (const int c : s.layout.coords(b)) {
        const double e = double(s.keys[t * d + c]) - y[t * d + c];
        sum += s.calibration.q_energy[b] * e * e;
      }
  return sum / kTokens;
}

}  // namespace

TEST_CASE("every key method counts its bytes and brings keys back") {
  const Sample s;
  std::set<std::string> names;
  for (const Method& method : key_methods()) {
    CAPTURE(method.name);
    CHECK(names.insert(method.name).second);
    CHECK(find_method(key_methods(), method.name)->what == method.what);
    const auto quantizer = make_key_quantizer(method.name, s.head);
    REQUIRE(quantizer->dim() == 32);
    double squares = 0;
    for (const float k : s.keys) squares += double(k) * k / kTokens;
    double error = 0;
    const auto y = round_trip(*quantizer, s.keys, kTokens);
    for (size_t i = 0; i < y.size(); ++i)
      error += (double(s.keys[i]) - y[i]) * (double(s.keys[i]) - y[i]) / kTokens;
    CHECK(error < 0.2 * squares);
    // the widths that the method reports are those that its code holds
    const std::vector<uint8_t> bits = key_code_bits(method.name, s.head);
    REQUIRE(bits.size() == 16);
    if (const auto code = quantizer->linear_code()) {
      int held = 0, reported = 0;
      for (const LinearCode::Group& g : code->groups) held += g.d * g.bits;
      for (const uint8_t b : bits) reported += 2 * b;
      CHECK(held == reported);
    }
    if (quantizer->per_vector()) CHECK(quantizer->code_bytes(kTokens) == kTokens * quantizer->code_bytes());
  }
  CHECK(find_method(key_methods(), "no such") == nullptr);
  CHECK(make_key_quantizer("klt", s.head)->linear_code()->before_rope);
  CHECK_FALSE(make_key_quantizer("block-gtq-cb1", s.head)->linear_code()->before_rope);
  const auto bytes = [&](const char* name, size_t n) {
    return make_key_quantizer(name, s.head)->code_bytes(n);
  };
  const size_t stream = 12;  // 3 bits of 32 coordinates
  CHECK(bytes("tq-mse", 1) == 2 + stream);
  CHECK(bytes("tq-mse-cb", 1) == 2 + stream);
  CHECK(bytes("block-gtq-cb1", 1) == 2 + stream);
  const std::set<int> klt_groups = [&] {
    std::set<int> widths(s.key_bits.begin(), s.key_bits.end());
    widths.erase(0);  // not stored
    return widths;
  }();
  CHECK(bytes("klt", 1) == 2 * klt_groups.size() + stream);
  CHECK(bytes("rtn", 1) == 4 + stream);
  CHECK(bytes("turboquant-prod", 1) == 4 + stream);
  CHECK(bytes("fp8", 1) == 32);
  CHECK(bytes("kivi", 32) == 32 * 4 + 32 * stream);
  CHECK(bytes("kivi", 33) == 2 * 32 * 4 + 33 * stream);
  CHECK(bytes("kivi-centred", 64) == 2 * bytes("kivi", 32));
  const std::set<uint8_t> widths(s.product_bits.begin(), s.product_bits.end());
  CHECK(bytes("block-gtq-cb", 1) == 2 * widths.size() + stream);
}

TEST_CASE("methods that allocate by themselves keep to the map's range, or are refused") {
  Sample s;
  s.head.max_bits = 4;
  for (const char* method : {"block-gtq-product", "block-gtq-centred"}) {
    const std::vector<uint8_t> bits = key_code_bits(method, s.head);
    CHECK(*std::max_element(bits.begin(), bits.end()) == 4);
    s.head.published = false;
    try {
      make_key_quantizer(method, s.head);
      FAIL("made as if the map were published");
    } catch (const Error& e) {
      CHECK(e.code == Exit::usage);
      CHECK_THAT(e.what(), ContainsSubstring(method));
    }
    s.head.published = true;
  }
}

TEST_CASE("fp16 numbers that were cut to 65504 are counted, and no others") {
  const Sample s;
  const int d = s.layout.head_dim;
  for (const Method& method : key_methods()) {
    CAPTURE(method.name);
    const auto quantizer = make_key_quantizer(method.name, s.head);
    const auto clipped = [&](float factor, size_t n) {
      std::vector<float> x(s.keys.begin(), s.keys.begin() + std::ptrdiff_t(n) * d);
      for (int j = 0; j < d; ++j) x[j] *= factor;  // the first key
      std::vector<uint8_t> codes(quantizer->code_bytes(n));
      quantizer->encode(x.data(), n, codes.data());
      return quantizer->clipped(codes.data(), n);
    };
    CHECK(clipped(1, 70) == 0);
    if (std::string(method.name) == "fp8")
      CHECK(clipped(1e6f, 70) == 0);  // holds no fp16
    else
      CHECK(clipped(1e6f, 70) >= 1);
    if (std::string(method.name) == "tq-mse") {
      CHECK(clipped(1e6f, 70) == 1);
      CHECK(clipped(1e6f, 1) == 1);
    }
  }
}

TEST_CASE("keys too small for float32 to scale are encoded as their mean") {
  Sample s;
  const int d = s.layout.head_dim;
  for (double& k : s.calibration.k_energy) k = 2e-78;
  std::fill(s.calibration.k_mean.begin(), s.calibration.k_mean.end(), 0);
  std::vector<float> keys(size_t(d), 1e-39f);
  for (const char* method : {"block-gtq-cb", "block-gtq-cb1", "tq-mse-cb", "block-gtq-centred"}) {
    CAPTURE(method);
    const std::vector<float> back = round_trip(*make_key_quantizer(method, s.head), keys, 1);
    for (const float x : back) CHECK(std::abs(x) < 1e-30f);
  }
}

TEST_CASE("a key that overflows float32 on the way to its code is not finite") {
  Sample s;  // calibrated on keys so small that they are scaled by 1e30
  for (double& k : s.calibration.k_energy) k = 2e-78;
  std::fill(s.calibration.k_mean.begin(), s.calibration.k_mean.end(), 0);
  const std::vector<float> keys(size_t(s.layout.head_dim), 1e20f);
  for (const char* method : {"block-gtq-cb", "block-gtq-cb1", "tq-mse-cb", "block-gtq-centred"}) {
    CAPTURE(method);
    const auto quantizer = make_key_quantizer(method, s.head);
    std::vector<uint8_t> codes(quantizer->code_bytes(1));
    try {
      quantizer->encode(keys.data(), 1, codes.data());
      FAIL("encoded an infinite number");
    } catch (const Error& e) {
      CHECK(e.code == Exit::nonfinite);
    }
  }
}

TEST_CASE("centring and balance pay") {
  const Sample s;
  const auto error = [&](const char* name) {
    return weighted_error(s, round_trip(*make_key_quantizer(name, s.head), s.keys, kTokens));
  };
  // The constant part is 10 of about 10.1 in every coordinate: what a centred code need not describe.
  CHECK(error("tq-mse-cb") < 0.1 * error("tq-mse"));
  CHECK(error("block-gtq-cb") < 0.1 * error("block-gtq"));
  CHECK(error("block-gtq-cb") < error("tq-mse-cb"));
  CHECK(error("block-gtq-cb1") < error("tq-mse-cb"));
  CHECK(error("klt") < error("block-gtq-cb1"));
}

TEST_CASE("one norm per key: scaled groups, and each of them back at its size") {
  const Sample s;
  const LinearCode code = centred_blocks(s.head, s.product_bits, true, Codebook::exact);
  CHECK(code.one_norm);
  CHECK(code.n_coords() == 32);
  // backward forward = 1
  for (int i = 0; i < 32; ++i)
    for (int j = 0; j < 32; ++j) {
      double sum = 0;
      for (int k = 0; k < 32; ++k) sum += double(code.backward[i * 32 + k]) * code.forward[k * 32 + j];
      REQUIRE(sum == Approx(i == j).margin(1e-5));
    }
  // over the calibration tokens every group of z has variance one
  int first = 0;
  for (const LinearCode::Group& g : code.groups) {
    double sum = 0;
    for (size_t t = 0; t < kTokens; ++t)
      for (int i = first; i < first + g.d; ++i) {
        double z = 0;
        for (int j = 0; j < 32; ++j)
          z += double(code.forward[i * 32 + j]) * (s.keys[t * 32 + j] - code.mean[j]);
        sum += z * z;
      }
    CHECK(sum / double(kTokens * g.d) == Approx(1).epsilon(1e-3));
    first += g.d;
  }
}

TEST_CASE("a block that is never asked for, or never moves") {
  Sample s;
  s.calibration.q_energy[3] = 0;
  s.calibration.k_energy[5] = 0;
  for (const int c : s.layout.coords(5)) s.calibration.k_energy[5] += std::pow(s.calibration.k_mean[c], 2);
  for (const char* name : {"block-gtq-cb", "block-gtq-cb1", "tq-mse-cb"})
    for (const float y : round_trip(*make_key_quantizer(name, s.head), s.keys, kTokens))
      REQUIRE(std::isfinite(y));
  s.calibration.q_energy.assign(16, 0);
  for (const float y : round_trip(*make_key_quantizer("block-gtq-cb1", s.head), s.keys, kTokens))
    REQUIRE(std::isfinite(y));
}

TEST_CASE("a map without calibration is refused where it is needed") {
  Sample s;
  s.head.calibration = nullptr;
  for (const char* name :
       {"block-gtq-cb", "block-gtq-cb1", "tq-mse-cb", "tq-mse-centres", "kivi-centred", "klt"})
    CHECK_THROWS_AS(make_key_quantizer(name, s.head), Error);
  CHECK_NOTHROW(make_key_quantizer("block-gtq", s.head));
  CHECK_THROWS_AS(make_value_quantizer("klt", s.head), Error);
  CHECK_THROWS_AS(make_key_quantizer("nothing", s.head), std::logic_error);
}

// A key as an attention sink has it: short, and far from the mean of the others.
TEST_CASE("a key that is not what calibration saw costs no more than by plain TQ-MSE") {
  const double average = GENERATE(2.0, 3.0, 4.0);
  Sample s(average);
  Random random(21);
  for (float& k : s.keys) k = float(0.3 * random.standard_normal());
  const double plain = weighted_error(s, round_trip(*make_key_quantizer("tq-mse", s.head), s.keys, kTokens));
  for (const Method& method : key_methods()) {
    const std::string name = method.name;
    if (!method.trellis || !method.needs_map || name == "block-gtq" || name == "block-gtq-product") continue;
    for (const Code code : {Code::scalar, Code::trellis}) {
      CAPTURE(name, blockgtq::name(code), average);
      const auto quantizer = make_key_quantizer(name, s.head, Codebook::by_method, code);
      // the exact codebook and another rotation move the error by some percent
      CHECK(weighted_error(s, round_trip(*quantizer, s.keys, kTokens)) < 1.05 * plain);
    }
  }
}

TEST_CASE("a trellis takes the same bytes and errs less") {
  const Sample s;
  for (const Method& method : key_methods()) {
    if (!method.trellis) {
      CHECK_THROWS_AS(make_key_quantizer(method.name, s.head, Codebook::by_method, Code::trellis),
                      std::logic_error);
      continue;
    }
    CAPTURE(method.name);
    const auto scalar = make_key_quantizer(method.name, s.head),
               trellis = make_key_quantizer(method.name, s.head, Codebook::by_method, Code::trellis);
    CHECK(scalar->code_bytes() == trellis->code_bytes());
    const double a = weighted_error(s, round_trip(*scalar, s.keys, kTokens)),
                 b = weighted_error(s, round_trip(*trellis, s.keys, kTokens));
    const auto code = trellis->linear_code();
    const bool any =
        std::any_of(code->groups.begin(), code->groups.end(), [](const auto& g) { return g.trellis; });
    if (any)
      CHECK(b < 0.95 * a);
    else
      CHECK(b == Approx(a).epsilon(0.05));  // groups too short
  }
}

TEST_CASE("KIVI refreshes scales every 32 tokens, per channel") {
  // Channel 0 counts to 3, channel 1 doubles after 32 tokens: both are on a grid of 2 bits, exactly.
  std::vector<float> x;
  for (int t = 0; t < 50; ++t) {
    x.push_back(float(t % 4));
    x.push_back(float((t < 32 ? 100 : 200) * (t % 4)));
  }
  const Kivi kivi(2, 2);
  CHECK(round_trip(kivi, x, 50) == x);
  std::vector<float> shifted;
  for (size_t i = 0; i < x.size(); ++i) shifted.push_back(x[i] + (i % 2 ? 7 : 1000));
  CHECK(round_trip(Kivi(2, 2, {1000, 7}), shifted, 50) == shifted);
  // on the grid of the tile before, the second tile's larger channel is cut off at 300
  const auto lagging = round_trip(Kivi(2, 2, {}, true), x, 50);
  for (int t = 0; t < 50; ++t) {
    CHECK(lagging[2 * t] == x[2 * t]);
    CHECK(lagging[2 * t + 1] == std::min(x[2 * t + 1], 300.0f));
  }
  const std::vector<float> constant(64, 2.5f);
  CHECK(round_trip(kivi, constant, 32) == constant);
}

TEST_CASE("e4m3") {
  for (int bits = 0; bits < 256; ++bits)
    if ((bits & 0x7f) != 0x7f) CHECK(to_e4m3(from_e4m3(uint8_t(bits))) == bits);
  CHECK(from_e4m3(0x7e) == 448);
  CHECK(from_e4m3(0x01) == std::ldexp(1.0f, -9));
  CHECK(from_e4m3(0x08) == std::ldexp(1.0f, -6));
  CHECK(to_e4m3(1e9f) == 0x7e);
  CHECK(to_e4m3(-1e9f) == 0xfe);
  CHECK(from_e4m3(to_e4m3(17.0f)) == 16);  // halfway between 16 and 18: to even
  CHECK(from_e4m3(to_e4m3(19.0f)) == 20);
  CHECK(from_e4m3(to_e4m3(15.9f)) == 16);  // up into the next exponent
  CHECK(from_e4m3(to_e4m3(std::ldexp(1.0f, -11))) == 0);
}

// E sign(S e) S^T q = sqrt(2 / pi) q.e / |e| for every row of S: over many sketches the estimate of an inner
// product has no bias. One estimate has standard deviation below sqrt(pi / (2 d)) |e| |q|.
TEST_CASE("TurboQuant-prod estimates inner products without bias") {
  const int d = 16, n_sketches = 400;
  Random random(3);
  std::vector<float> x(d), q(d);
  for (float& v : x) v = float(random.standard_normal());
  for (float& v : q) v = float(random.standard_normal());
  double exact = 0, estimate = 0, q2 = 0, x2 = 0;
  for (int j = 0; j < d; ++j)
    exact += double(q[j]) * x[j], q2 += double(q[j]) * q[j], x2 += double(x[j]) * x[j];
  for (int i = 0; i < n_sketches; ++i) {
    const auto y = round_trip(TurboquantProd(d, 1, uint64_t(i)), x, 1);
    for (int j = 0; j < d; ++j) estimate += double(q[j]) * y[j] / n_sketches;
  }
  const double deviation = std::sqrt(1.5707963 / d * x2 * q2 / n_sketches);
  CHECK(std::abs(estimate - exact) < 4 * deviation);
}
