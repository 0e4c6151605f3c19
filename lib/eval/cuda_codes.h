#pragma once
#include "kernels/codes/code_tables.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// What the kernels need to know of a quantizer. It points into the quantizer.
cuda::CodeSpec code_spec(const Quantizer& quantizer);

}  // namespace blockgtq
