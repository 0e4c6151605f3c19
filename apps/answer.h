#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "eval/sampler.h"
#include "serve/sequence.h"

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

/// A text that may come to so many tokens.
using MakeSequence = std::function<std::unique_ptr<Sequence>(int64_t context)>;

/// Answers prompts, each with a sequence of its own; on_answer gets the index of each as its answer is there.
/// An answer depends on its prompt alone.
void answer_prompts(std::span<const Prompt> prompts, const MakeSequence& make_sequence,
                    const std::function<void(size_t prompt, const Answer& answer)>& on_answer);

}  // namespace blockgtq
