#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// out (n) = normal numbers of this standard deviation, the same for the same seed. They are for
/// measurements, where the numbers themselves do not matter.
void fill_normal(void* out, FloatType type, int64_t n, float deviation, uint64_t seed, const Stream& stream);

}  // namespace blockgtq::cuda
