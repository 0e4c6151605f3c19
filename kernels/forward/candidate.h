#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// The largest of some neighbouring results, and its row. Where a result is not finite, the candidate reports
/// that instead: its row is then -1 - (the result's row), which is negative.
struct Candidate {
  float value = 0;
  int32_t row = 0;
};

}  // namespace blockgtq::cuda
