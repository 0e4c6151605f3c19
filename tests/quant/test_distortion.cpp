#include <cmath>
#include <vector>

#include "catch.h"
#include "quant/codebook.h"
#include "quant/distortion.h"
#include "quant/random.h"
#include "quant/tq_mse.h"

using namespace blockgtq;

namespace {

// |x - x_hat|^2 / |x|^2 over random directions: the rotation is then any rotation.
double measured(int d, int bits, size_t n) {
  const TqMse tq(d, bits, 42);
  Random random(uint64_t(100 * d + bits));
  std::vector<float> x(n * d), restored(n * d);
  for (float& value : x) value = float(random.standard_normal());
  std::vector<uint8_t> codes(n * d);
  std::vector<uint16_t> norms(n);
  tq.encode(x.data(), n, codes.data(), norms.data());
  tq.decode(codes.data(), norms.data(), n, restored.data());
  double sum = 0;
  for (size_t t = 0; t < n; ++t) {
    double error = 0, energy = 0;
    for (int j = 0; j < d; ++j) {
      const double a = x[t * d + j], e = restored[t * d + j] - a;
      error += e * e;
      energy += a * a;
    }
    sum += error / energy;
  }
  return sum / double(n);
}

}  // namespace

TEST_CASE("the distortion of the codebook is what the quantizer does") {
  const Distortion distortion = Distortion::of_codebook(Codebook::reference, 64);
  // 4000 vectors: a deviation of a vector's error as large as its mean leaves 1.6 %; three of those.
  for (const int d : {2, 4, 6, 8, 16, 32, 128})
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      INFO(d << " dimensions, " << bits << " bits");
      CHECK(measured(d, bits, 4000) == Approx(distortion(bits, d / 2)).epsilon(0.048));
    }
}

TEST_CASE("the distortion falls with every bit, convexly, in every dimension") {
  const Distortion distortion = Distortion::of_codebook(Codebook::reference, 256);
  for (int n = 1; n <= 256; ++n)
    for (int b = 1; b < kMaxBits; ++b) {
      REQUIRE(distortion(b + 1, n) < distortion(b, n));
      if (b + 1 < kMaxBits)
        REQUIRE(distortion(b, n) - distortion(b + 1, n) > distortion(b + 1, n) - distortion(b + 2, n));
    }
  CHECK(Distortion::power_law()(3, 7) == 1.0 / 64);
}

TEST_CASE("Lloyd-Max of the normal distribution: the known distortions") {
  // Max (1960): 1 to 4 bits 0.3634, 0.1175, 0.03454, 0.009497. In many dimensions norm correction makes of D
  // 2 - 2 sqrt(1 - D).
  const Distortion distortion = Distortion::of_codebook(Codebook::reference, 256);
  const double known[] = {0.3634, 0.1175, 0.03454, 0.009497};
  for (int b = 1; b <= 4; ++b)  // O(1/d) left; the published 4-bit codebook has not converged
    CHECK(distortion(b, 256) == Approx(2 - 2 * std::sqrt(1 - known[b - 1])).epsilon(b == 4 ? 0.04 : 0.01));
}
