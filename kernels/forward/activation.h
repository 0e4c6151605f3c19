#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// Of a gate g and its up value u: silu(g) u; gelu(g) u by tanh; g' sigmoid(alpha g') (u' + 1) with g' =
/// min(g, limit) and u' = u within -limit and limit.
enum class Activation { silu, gelu_tanh, clamped };
/// A row of 2 width values is [gate | up], or (gate, up) pairs; one of width values is the gate alone, up
/// being 1.
enum class GateLayout { halves, pairs, alone };

/// out (n, width) = the activation of x's rows, rounded to `type`.
struct GatedRows {
  const float* x = nullptr;  // dense
  int64_t n = 0, width = 0;
  Activation activation = Activation::silu;
  GateLayout layout = GateLayout::halves;
  float limit = 0, alpha = 0;  // Activation::clamped
  void* out = nullptr;         // dense
  FloatType type = FloatType::f32;
};
void activate(const GatedRows& rows, const Stream& stream);

}  // namespace blockgtq::cuda
