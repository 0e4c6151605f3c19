#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "kernels/forward/matvec.h"

namespace blockgtq::cuda {

/// x (B, hidden) = factor times the tokens' rows of the embedding.
struct EmbedTokens {
  const void* table = nullptr;  // (vocab, hidden) of `type`
  FloatType type = FloatType::f32;
  int64_t hidden = 0;
  int batch = 0;
  const int32_t* tokens = nullptr;  // (B)
  float factor = 1;
  float* x = nullptr;
};
void embed_tokens(const EmbedTokens& job, const Stream& stream);

/// The end of a decoding step: the likeliest token of each sequence, the first of equals, becomes its next
/// token, and its position grows by one.
struct ChooseTokens {
  const Candidate* best = nullptr;  // (B, n)
  int64_t n = 0;
  int batch = 0;
  int32_t* tokens = nullptr;     // (B)
  int32_t* positions = nullptr;  // (B)
  // (B): 1 + a row of logits that was not finite, in any step so far; otherwise left as it is.
  int32_t* faults = nullptr;
};
void choose_tokens(const ChooseTokens& job, const Stream& stream);

}  // namespace blockgtq::cuda
