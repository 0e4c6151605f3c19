#include "answer.h"

#include <algorithm>

namespace blockgtq {
namespace {

constexpr float kNever = -1e30f;  // a logit of what is not drawn

Answer answer_prompt(const Prompt& prompt, Sequence& sequence) {
  Answer answer;
  Random random(prompt.seed);
  std::span<const float> logits = sequence.append(prompt.tokens);
  std::vector<float> first;
  if (prompt.begins) {
    first.assign(logits.begin(), logits.end());
    for (const int32_t id : prompt.ends) first[size_t(id)] = kNever;
    logits = first;
  }
  for (;;) {
    const int32_t next = sample(prompt.sampling, logits, random);
    answer.ended = std::find(prompt.ends.begin(), prompt.ends.end(), next) != prompt.ends.end();
    if (answer.ended) return answer;
    answer.ids.push_back(next);
    if (int64_t(answer.ids.size()) == prompt.most) return answer;
    logits = sequence.append({&answer.ids.back(), 1});
  }
}

}  // namespace

void answer_prompts(std::span<const Prompt> prompts, const MakeSequence& make_sequence,
                    const std::function<void(size_t, const Answer&)>& on_answer) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Prompt& prompt = prompts[i];
    const std::unique_ptr<Sequence> sequence = make_sequence(int64_t(prompt.tokens.size()) + prompt.most);
    on_answer(i, answer_prompt(prompt, *sequence));
  }
}

}  // namespace blockgtq
