#include "answer.h"

#include <algorithm>
#include <optional>

namespace blockgtq {
namespace {

constexpr float kNever = -1e30f;  // a logit of what is not drawn

class Answering {
 public:
  Answering(std::span<const Prompt> prompts, Batch& batch,
            const std::function<void(size_t, const Answer&)>& on_answer)
      : prompts_(prompts),
        batch_(batch),
        on_answer_(on_answer),
        finished_(prompts.size()),
        running_(size_t(batch.slots())) {
    for (const Prompt& prompt : prompts) batch.require(length(prompt));
  }

  void run() {
    for (size_t next = 0; given_ < prompts_.size();) {
      while (next < prompts_.size() && batch_.has_room(length(prompts_[next]))) start(next++);
      step();
    }
  }

 private:
  struct Running {
    size_t prompt;
    Answer answer;
    Random random;
  };

  static int64_t length(const Prompt& prompt) { return int64_t(prompt.tokens.size()) + prompt.most; }

  void start(size_t i) {
    const Prompt& prompt = prompts_[i];
    const int slot = batch_.add(prompt.tokens, length(prompt));
    running_[size_t(slot)].emplace(Running{i, {}, Random(prompt.seed)});
    go_on(slot);
  }

  /// A token of every answer.
  void step() {
    std::vector<int32_t> last(running_.size());
    for (size_t slot = 0; slot < running_.size(); ++slot)
      if (running_[slot]) last[slot] = running_[slot]->answer.ids.back();
    batch_.step(last);
    for (size_t slot = 0; slot < running_.size(); ++slot)
      if (running_[slot]) go_on(int(slot));
  }

  int32_t next_token(int slot, Running& running) {
    const Prompt& prompt = prompts_[running.prompt];
    if (prompt.begins && running.answer.ids.empty()) {
      const std::span<const float> all = batch_.logits(slot);
      std::vector<float> first(all.begin(), all.end());
      for (const int32_t id : prompt.ends) first[size_t(id)] = kNever;
      return sample(prompt.sampling, first, running.random);
    }
    return prompt.sampling.temperature == 0 ? batch_.likeliest(slot)
                                            : sample(prompt.sampling, batch_.logits(slot), running.random);
  }

  void go_on(int slot) {
    Running& running = *running_[size_t(slot)];
    const Prompt& prompt = prompts_[running.prompt];
    const int32_t next = next_token(slot, running);
    running.answer.ended = std::find(prompt.ends.begin(), prompt.ends.end(), next) != prompt.ends.end();
    if (!running.answer.ended) running.answer.ids.push_back(next);
    if (running.answer.ended || int64_t(running.answer.ids.size()) == prompt.most) finish(slot);
  }

  void finish(int slot) {
    Running& running = *running_[size_t(slot)];
    finished_[running.prompt] = std::move(running.answer);
    batch_.end(slot);
    running_[size_t(slot)].reset();
    for (; given_ < finished_.size() && finished_[given_]; ++given_) {
      on_answer_(given_, *finished_[given_]);
      finished_[given_]->ids = {};
    }
  }

  std::span<const Prompt> prompts_;
  Batch& batch_;
  const std::function<void(size_t, const Answer&)>& on_answer_;
  std::vector<std::optional<Answer>> finished_;  // (prompts)
  std::vector<std::optional<Running>> running_;  // (slots)
  size_t given_ = 0;                             // prompts whose answers are handed on
};

}  // namespace

void answer_prompts(std::span<const Prompt> prompts, Batch& batch,
                    const std::function<void(size_t, const Answer&)>& on_answer) {
  Answering(prompts, batch, on_answer).run();
}

}  // namespace blockgtq
