#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/random.h"

namespace blockgtq::test {

/// n numbers of variance 1.
inline std::vector<float> gaussian(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = float(random.standard_normal());
  return x;
}

}  // namespace blockgtq::test
