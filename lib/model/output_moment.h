#pragma once
#include <vector>

#include "model/weights.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// W_o (hidden, Hq Dv) -> (H, Dv, Dv), the sum over the query heads g of a KV head of W_o,g^T W_o,g. It
/// weighs an error e of a value, which changes the layer's output by |W_o,g e|^2 per unit of squared
/// attention weight.
std::vector<double> output_moment(const Linear& o, const AttentionShape& shape);

}  // namespace blockgtq
