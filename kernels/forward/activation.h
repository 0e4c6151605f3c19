#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// Functions of a gate g and its up value u: silu(g) u; gelu(g) u in the tanh form; g' sigmoid(alpha g')
/// (u' + 1) with g' = min(g, limit) and u' = u clamped to [-limit, limit].
enum class Activation { silu, gelu_tanh, clamped };
/// How a row lies: 2 width values as [gate | up] or as (gate, up) pairs, or width values that are the gate
/// alone, with up = 1.
enum class GateLayout { halves, pairs, alone };

/// out (n, width) = the activation of x's rows, rounded to `type`.
struct GatedRows {
  const float* x = nullptr;  // dense
  int64_t n = 0, width = 0;
  Activation activation = Activation::silu;
  GateLayout layout = GateLayout::halves;
  float limit = 0, alpha = 0;  // of Activation::clamped
  void* out = nullptr;         // dense
  FloatType type = FloatType::f32;
};
void activate(const GatedRows& rows, const Stream& stream);

}  // namespace blockgtq::cuda
