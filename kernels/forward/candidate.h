#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// The largest of some neighbouring results and its row. Where one of them is not finite, that row, less than
/// 0 by one: -1 - row.
struct Candidate {
  float value = 0;
  int32_t row = 0;
};

}  // namespace blockgtq::cuda
