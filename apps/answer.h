#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/sampler.h"
#include "serve/batch.h"

namespace blockgtq {

/// A prompt in tokens, and how its answer is written.
struct Prompt {
  std::vector<int32_t> tokens;     // at least one
  int64_t most = 128;              // tokens of the answer
  std::vector<int32_t> ends = {};  // tokens that end it
  bool begins = false;             // the first token is none of those
  Sampling sampling = {};
  uint64_t seed = 42;  // of the draws
};

struct Answer {
  std::vector<int32_t> ids;  // without the token that ended it
  bool ended = false;        // by such a token
};

/// Answers prompts, as many at once as the batch has slots and pages for; on_answer gets the index of each
/// and its answer, in their order. An answer depends on its prompt alone, but for a device's order of sums.
/// Returns the seconds that reading prompts took. Exit::device for a prompt that finds no room even alone.
double answer_prompts(std::span<const Prompt> prompts, Batch& batch,
                    const std::function<void(size_t prompt, const Answer& answer)>& on_answer);

}  // namespace blockgtq
