#pragma once
#include <cstdint>
#include <span>

#include "quant/random.h"

namespace blockgtq {

/// How the next token is drawn, as in transformers: logits are divided by the temperature; of the likeliest
/// tokens the first top_k stay; of these stay the fewest whose shares add up to top_p; one of them is drawn
/// at random.
struct Sampling {
  double temperature = 0;  // 0: the likeliest token, the lowest id on ties
  int64_t top_k = 0;       // 0: all
  double top_p = 1;        // in (0, 1]
};

/// Draws a token id. logits (vocab), finite.
int32_t sample(const Sampling& sampling, std::span<const float> logits, Random& random);

}  // namespace blockgtq
