#include "answer.h"

#include <algorithm>
#include <utility>

#include "serve/write_texts.h"

namespace blockgtq {
namespace {

constexpr float kNever = -1e30f;  // a logit of what is not drawn

/// The first token of an answer that must begin.
int32_t first_token(const Prompt& prompt, std::span<const float> logits, Random& random) {
  std::vector<float> allowed(logits.begin(), logits.end());
  for (const int32_t id : prompt.ends) allowed[size_t(id)] = kNever;
  return sample(prompt.sampling, allowed, random);
}

}  // namespace

double answer_prompts(std::span<const Prompt> prompts, Batch& batch,
                    const std::function<void(size_t, const Answer&)>& on_answer) {
  std::vector<BatchText> texts;
  std::vector<Random> randoms;
  for (const Prompt& prompt : prompts) {
    texts.push_back({prompt.tokens, int64_t(prompt.tokens.size()) + prompt.most});
    randoms.emplace_back(prompt.seed);
  }
  std::vector<Answer> answers(prompts.size());
  const auto next = [&](size_t i, int slot) -> std::optional<int32_t> {
    const Prompt& prompt = prompts[i];
    Answer& answer = answers[i];
    const bool first = prompt.begins && answer.ids.empty();
    const int32_t token = first ? first_token(prompt, batch.logits(slot), randoms[i])
                                : next_token(batch, slot, prompt.sampling, randoms[i]);
    answer.ended = std::find(prompt.ends.begin(), prompt.ends.end(), token) != prompt.ends.end();
    if (answer.ended) return std::nullopt;
    answer.ids.push_back(token);
    return int64_t(answer.ids.size()) < prompt.most ? std::optional(token) : std::nullopt;
  };
  return write_texts(batch, texts, next, [&](size_t i) { on_answer(i, std::exchange(answers[i], {})); });
}

}  // namespace blockgtq
