#pragma once
#include <span>
#include <vector>

#include "kernels/device/device.h"
#include "quant/linear_code.h"

namespace blockgtq::cuda {

inline constexpr int kMaxLinearDim = 256;

/// A code, and its centres transformed as z is.
struct LinearSpec {
  LinearCode code;               // D <= kMaxLinearDim
  std::vector<float> z_centres;  // (M, n): forward times the centres; empty where there are none
};

struct LinearTable;  // one code in device memory, see linear_table.cuh

/// Codes in device memory, each with its fallback.
class LinearTables {
 public:
  LinearTables(std::span<const LinearSpec> specs, const Stream& stream);
  const LinearTable* table(size_t i) const;

 private:
  Buffer tables_, numbers_;
};

}  // namespace blockgtq::cuda
