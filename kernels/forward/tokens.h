#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "kernels/forward/matvec.h"

namespace blockgtq::cuda {

/// x (B, hidden) = the tokens' rows of the embedding, times a factor.
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
/// one, and its position goes on by one.
struct ChooseTokens {
  const Candidate* best = nullptr;  // (B, n)
  int64_t n = 0;
  int batch = 0;
  int32_t* tokens = nullptr;     // (B)
  int32_t* positions = nullptr;  // (B)
  int32_t* faults = nullptr;  // (B): 1 + a row of logits that was not finite, in any step so far; else kept
};
void choose_tokens(const ChooseTokens& job, const Stream& stream);

}  // namespace blockgtq::cuda
