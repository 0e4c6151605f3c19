#include "eval/wilson.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace blockgtq {

Bootstrap::Interval wilson(double share, double n) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  if (!(n > 0)) return {kNone, kNone};
  constexpr double z = 1.959963984540054, z2 = z * z;  // the normal distribution's 97.5 % quantile
  const double middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {std::max(0.0, std::min(share, middle - half)), std::min(1.0, std::max(share, middle + half))};
}

}  // namespace blockgtq
