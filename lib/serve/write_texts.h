#pragma once
#include <functional>
#include <optional>

#include "eval/sampler.h"
#include "serve/batch.h"

namespace blockgtq {

/// A text to write: its prompt, and the most tokens that it may grow to, prompt included.
struct BatchText {
  std::span<const int32_t> prompt;
  int64_t most = 0;
};

/// Writes texts, as many at once as the batch has slots and pages for. next(text, slot) gives the token that
/// follows a text's last one; nothing ends the text. on_end is called for every text in order, as soon as it
/// and all before it have ended. Returns the seconds spent on reading prompts. Exit::device for a text that
/// has no room even alone.
double write_texts(Batch& batch, std::span<const BatchText> texts,
                   const std::function<std::optional<int32_t>(size_t text, int slot)>& next,
                   const std::function<void(size_t text)>& on_end);

/// Samples the token behind a slot's last one. At temperature 0 it needs no logits: a batch knows the
/// likeliest.
int32_t next_token(Batch& batch, int slot, const Sampling& sampling, Random& random);

}  // namespace blockgtq
