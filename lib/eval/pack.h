#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "quant/quantizer.h"

namespace blockgtq {

/// One KV head's keys as a cache would hold them, and their distortion: |k - k_hat|^2 and |k|^2, summed over
/// tokens.
struct PackedHead {
  std::vector<uint8_t> codes;  // (T, code_bytes)
  size_t code_bytes = 0;
  double error = 0, energy = 0;
  int64_t clipped = 0;  // fp16 numbers of the codes that were clipped to 65504
};

using HeadQuantizers = std::vector<std::unique_ptr<Quantizer>>;  // (H), all of one head dimension

/// Encodes the keys of one layer: k (T, H, D) -> (H). Exit::nonfinite, named by KV head.
std::vector<PackedHead> pack_layer(const HeadQuantizers& quantizers, const float* k, int64_t n_tokens);

/// The same on a GPU, with the same codes. k is in host memory.
std::vector<PackedHead> cuda_pack_layer(const HeadQuantizers& quantizers, const float* k, int64_t n_tokens);

}  // namespace blockgtq
