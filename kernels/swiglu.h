#pragma once
#include <cstdint>

#include "device.h"
#include "float_type.h"

namespace blockgtq::cuda {

/// out (n, width) = silu(gate) * up, rounded to `type`, from gate_up (n, 2 width) = [gate | up].
void swiglu(const float* gate_up, int64_t n, int64_t width, void* out, FloatType type, const Stream& stream);

}  // namespace blockgtq::cuda
