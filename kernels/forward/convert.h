#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// out[i] = in[i] for n elements, rounded to nearest even where out is narrower. The arrays do not overlap.
void convert(const void* in, FloatType from, void* out, FloatType to, int64_t n, const Stream& stream);

}  // namespace blockgtq::cuda
