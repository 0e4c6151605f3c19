#pragma once
#include <cstdint>
#include <span>

#include "quant/random.h"

namespace blockgtq {

/// How the next token is drawn: logits over the temperature, then of the likeliest tokens the first top_k, of
/// those the fewest that have a share of top_p together, then by chance, as in transformers.
struct Sampling {
  double temperature = 0;  // 0: the likeliest token, the lowest id of equals
  int64_t top_k = 0;       // 0: all
  double top_p = 1;        // in (0, 1]
};

/// logits (vocab), finite
int32_t sample(const Sampling& sampling, std::span<const float> logits, Random& random);

}  // namespace blockgtq
