#pragma once
#include "device_arrays.h"

namespace blockgtq::test {

/// Keys (T, H, D) whose coordinates differ in size by up to 16 times.
inline std::vector<float> uneven_keys(Random& random, int64_t n_tokens, int64_t n_heads, int dim) {
  std::vector<float> x = random.normal(n_tokens * n_heads * dim);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= float(1 << (int(i % size_t(dim)) * 5 / dim));
  return x;
}

}  // namespace blockgtq::test
