#pragma once
#include <functional>
#include <optional>

#include "eval/sampler.h"
#include "serve/batch.h"

namespace blockgtq {

/// A text to write: its prompt, and the tokens that it may come to, the prompt's among them.
struct BatchText {
  std::span<const int32_t> prompt;
  int64_t most = 0;
};

/// Writes texts, as many at once as the batch has slots and pages for. next(text, slot) is the token behind
/// the last one of a text, which lies in that slot; nothing: the text has ended. on_end gets the texts in
/// their order, each when it and all before it have ended. Returns the seconds that reading prompts took.
/// Exit::device for one that finds no room even alone.
double write_texts(Batch& batch, std::span<const BatchText> texts,
                   const std::function<std::optional<int32_t>(size_t text, int slot)>& next,
                   const std::function<void(size_t text)>& on_end);

/// The token behind a slot's last one; a batch knows the likeliest without its logits.
int32_t next_token(Batch& batch, int slot, const Sampling& sampling, Random& random);

}  // namespace blockgtq
