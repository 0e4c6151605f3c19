#include "serve/write_texts.h"

#include <chrono>
#include <vector>

namespace blockgtq {

double write_texts(Batch& batch, std::span<const BatchText> texts,
                   const std::function<std::optional<int32_t>(size_t, int)>& next,
                   const std::function<void(size_t)>& on_end) {
  for (const BatchText& text : texts) batch.require(text.most);
  std::vector<std::optional<size_t>> running(
      size_t(batch.slots()));  // (slots) index of the text in each slot
  std::vector<int32_t> last(running.size());
  std::vector<bool> ended(texts.size());
  size_t given = 0;    // texts that on_end has got
  double reading = 0;  // seconds of reading prompts
  const auto go_on = [&](size_t slot) {
    const size_t text = *running[slot];
    if (const std::optional<int32_t> token = next(text, int(slot))) {
      last[slot] = *token;
      return;
    }
    batch.end(int(slot));
    running[slot].reset();
    ended[text] = true;
    for (; given < texts.size() && ended[given]; ++given) on_end(given);
  };
  for (size_t begun = 0; given < texts.size();) {
    while (begun < texts.size() && batch.has_room(texts[begun].most)) {
      const auto since = std::chrono::steady_clock::now();
      const auto slot = size_t(batch.add(texts[begun].prompt, texts[begun].most));
      reading += std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
      running[slot] = begun++;
      go_on(slot);
    }
    batch.step(last);
    for (size_t slot = 0; slot < running.size(); ++slot)
      if (running[slot]) go_on(slot);
  }
  return reading;
}

int32_t next_token(Batch& batch, int slot, const Sampling& sampling, Random& random) {
  return sampling.temperature == 0 ? batch.likeliest(slot) : sample(sampling, batch.logits(slot), random);
}

}  // namespace blockgtq
