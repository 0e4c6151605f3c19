#pragma once

namespace blockgtq::test {

/// The larger of two errors; NaN, which no bound accepts, where either is (std::max loses it).
inline double worse(double a, double b) {
  return a != a || b <= a ? a : b;
}

}  // namespace blockgtq::test
