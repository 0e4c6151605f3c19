#include "serve/cuda_batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/stop.h"
#include "eval/divergence.h"

namespace blockgtq {
namespace {

static_assert(kMostTexts == cuda::kMaxVectors);

/// Bytes that pages may take: what the options allow besides weights, RoPE angles and reading of prompts;
/// without a limit, seven eighths of what is free.
int64_t room_for_pages(const CudaWeights& weights, const CudaOptions& options, int64_t context,
                       int64_t reading) {
  if (options.memory_limit_bytes == 0) return cuda::free_device_bytes() / 8 * 7;
  const int64_t angles =
      context * weights.config().head_dim * int64_t(sizeof(float)) * (weights.config().local_rope ? 2 : 1);
  const int64_t fixed = weights.bytes() + angles + reading, allowed = options.memory_limit_bytes;
  if (fixed >= allowed)
    throw Error(Exit::device,
                fmt::format("device memory: {:.2f} GiB needed beside the cache (weights {:.2f}, reading of "
                            "prompts {:.2f}), {:.2f} GiB allowed",
                            gib(fixed), gib(weights.bytes()), gib(reading), gib(allowed)),
                "a smaller --prefill-chunk, a larger --gpu-memory, or --device cpu");
  return allowed - fixed;
}

}  // namespace

CudaBatch::CudaBatch(const Checkpoint& model, const AttentionShape& shape, const KvKind& kind,
                     const CudaOptions& options, int slots, int64_t context, int64_t chunk)
    : model_(model),
      weights_(model, options),
      cache_(shape, kind, slots, context, stream_,
             room_for_pages(weights_, options, context,
                            CudaPrompt::most_bytes(weights_, shape, context, chunk))),
      steps_(weights_, cache_, stream_),
      prompt_(weights_, cache_, steps_, stream_, chunk),
      texts_(size_t(slots)),
      logits_(size_t(slots) * size_t(model.config().vocab) * sizeof(float)) {}

const CudaBatch::Text& CudaBatch::text(int slot) const {
  check(texts_.at(size_t(slot)).n > 0, "a slot without a text");
  return texts_[size_t(slot)];
}

bool CudaBatch::has_room(int64_t tokens) const {
  std::vector<int64_t> lengths = {tokens};
  for (const Text& text : texts_)
    if (text.n > 0) lengths.push_back(text.most);
  return int(lengths.size()) <= slots() && cache_.holds(lengths);
}

std::vector<int32_t> CudaBatch::positions() const {
  std::vector<int32_t> all;
  for (const Text& text : texts_) all.push_back(text.n > 0 ? int32_t(text.n) : CudaSteps::kIdle);
  return all;
}

int CudaBatch::add(std::span<const int32_t> prompt, int64_t most) {
  const auto n = int64_t(prompt.size());
  check(n > 0 && n <= most && has_room(most), "CudaBatch: a text without room");
  int slot = 0;
  while (texts_[size_t(slot)].n > 0) ++slot;
  cache_.grow(slot, n, stream_);
  read_prompt(slot, prompt);
  Text& text = texts_[size_t(slot)];
  text.n = n;
  text.most = most;
  text.likeliest = int32_t(blockgtq::likeliest(text.prompt_logits.data(), model_.config().vocab));
  return slot;
}

void CudaBatch::step(std::span<const int32_t> tokens) {
  check_stop();
  check(int(tokens.size()) == slots(), "a token per slot");
  std::vector<int32_t> given(tokens.size());
  int64_t longest = 0;
  for (size_t b = 0; b < texts_.size(); ++b) {
    const Text& text = texts_[b];
    if (text.n == 0) continue;
    check(text.n < text.most, "a text beyond its length");
    cache_.grow(int(b), text.n + 1, stream_);
    given[b] = tokens[b];
    longest = std::max(longest, text.n + 1);
  }
  if (longest == 0) return;
  steps_.set(given, positions());
  steps_.step(longest);
  steps_.wait();
  has_logits_ = false;
  for (size_t b = 0; b < texts_.size(); ++b) {
    Text& text = texts_[b];
    if (text.n == 0) continue;
    ++text.n;
    text.likeliest = steps_.tokens()[b];
    text.prompt_logits.clear();
  }
}

void CudaBatch::end(int slot) {
  text(slot);
  cache_.release(slot, stream_);
  texts_[size_t(slot)] = {};
}

std::span<const float> CudaBatch::logits(int slot) {
  const Text& asked = text(slot);
  if (!asked.prompt_logits.empty()) return asked.prompt_logits;
  if (!has_logits_) steps_.logits(logits_.as<float>());
  has_logits_ = true;
  const auto vocab = size_t(model_.config().vocab);
  return {logits_.as<float>() + size_t(slot) * vocab, vocab};
}

PlainPositions CudaBatch::held(int slot, int layer) const {
  return cache_.read(layer, slot, text(slot).n, stream_);
}

void CudaBatch::read_prompt(int slot, std::span<const int32_t> tokens) {
  std::vector<float>& logits = texts_[size_t(slot)].prompt_logits;
  logits.resize(size_t(model_.config().vocab));
  prompt_.read(slot, tokens, logits);
  std::vector<int32_t> last = positions();  // as if a step had just brought each text's last token
  last[size_t(slot)] = int32_t(tokens.size());
  for (int32_t& position : last)
    if (position != CudaSteps::kIdle) --position;
  steps_.set(std::vector<int32_t>(texts_.size()), last);
  cache_.begin_step(stream_);
}

}  // namespace blockgtq
