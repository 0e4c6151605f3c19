#pragma once
#include "kernels/forward/activation.h"

namespace blockgtq::cuda {

/// act(g, u); activation.cu has the formulas.
struct ActivationFunction {
  Activation kind;
  float limit, alpha;

  __device__ float operator()(float g, float u) const {
    constexpr float kRoot = 0.7978845608028654f;  // sqrt(2 / pi)
    switch (kind) {
      case Activation::silu:
        return g / (1.0f + expf(-g)) * u;
      case Activation::gelu_tanh:
        return 0.5f * g * (1.0f + tanhf(kRoot * (g + 0.044715f * g * g * g))) * u;
      default: {
        const float low = fminf(g, limit);
        return low / (1.0f + expf(-alpha * low)) * (fminf(fmaxf(u, -limit), limit) + 1.0f);
      }
    }
  }
};

}  // namespace blockgtq::cuda
