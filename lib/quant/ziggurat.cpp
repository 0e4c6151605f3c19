#include "quant/ziggurat.h"

#include <cmath>

namespace blockgtq {

namespace {

// exp and log, correctly rounded to double (except in cases too rare to occur here). So the recurrence below
// gives the same bits with every libm.
double rounded_exp(double x) {
  return double(std::exp(static_cast<long double>(x)));
}
double rounded_log(double x) {
  return double(std::log(static_cast<long double>(x)));
}

// The construction of Doornik ("An improved ziggurat method", 2005), in double as numpy's generator of its
// constants does it: every layer has the area kArea. One of the 768 published constants is a neighbour of the
// correctly rounded value (exp at layer 38 is within 0.002 units of the middle between two doubles). The
// layers above follow from it, so the neighbour has to be taken.
Ziggurat build() {
  constexpr double kArea = 0.0049286732339746519;
  constexpr double kCandidates = 0x1p52;
  constexpr int kMisrounded = 38;
  const auto density_of = [](double x, int layer) {
    const double value = rounded_exp(-0.5 * x * x);
    return layer == kMisrounded ? std::nextafter(value, 1.0) : value;
  };

  Ziggurat z;
  std::array<double, 256> x;  // outer edges, ascending; x[0] = 0 is the top of the curve
  x[255] = Ziggurat::kTail;
  z.density[255] = density_of(x[255], 255);
  for (int i = 254; i > 0; --i) {
    x[i] = std::sqrt(-2 * rounded_log(z.density[i + 1] + kArea / x[i + 1]));
    z.density[i] = density_of(x[i], i);
  }
  x[0] = 0;
  z.density[0] = 1;
  for (int i = 1; i < 256; ++i) {
    z.accept[i] = uint64_t(std::nearbyint(x[i - 1] / x[i] * kCandidates));
    z.scale[i] = x[i] / kCandidates;
  }
  // The base layer: its rectangle under the curve, widened by the area of the tail.
  z.accept[0] = uint64_t(std::nearbyint(x[255] * z.density[255] / kArea * kCandidates));
  z.scale[0] = kArea / z.density[255] / kCandidates;
  return z;
}

}  // namespace

const Ziggurat& ziggurat() {
  static const Ziggurat tables = build();
  return tables;
}

}  // namespace blockgtq
