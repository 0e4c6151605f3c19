#include "serve/sequence_batch.h"

#include <algorithm>

#include "base/error.h"
#include "eval/divergence.h"

namespace blockgtq {
namespace {

class SequenceBatch final : public Batch {
 public:
  SequenceBatch(int slots, MakeSequence make) : make_(std::move(make)), texts_(size_t(slots)) {}

  int slots() const override { return int(texts_.size()); }
  void require(int64_t) const override {}
  bool has_room(int64_t) const override { return free_slot() < slots(); }

  int add(std::span<const int32_t> prompt, int64_t most) override {
    check(has_room(most), "a text more than slots");
    const int slot = free_slot();
    Text& text = texts_[size_t(slot)];
    text.sequence = make_(most);
    text.logits = text.sequence->append(prompt);
    return slot;
  }
  void step(std::span<const int32_t> tokens) override {
    check(tokens.size() == texts_.size(), "a token per slot");
    for (size_t b = 0; b < texts_.size(); ++b)
      if (texts_[b].sequence) texts_[b].logits = texts_[b].sequence->append(tokens.subspan(b, 1));
  }
  void end(int slot) override {
    require_text(slot);
    texts_[size_t(slot)] = {};
  }

  int32_t likeliest(int slot) override {
    const std::span<const float> logits = text(slot).logits;
    return int32_t(blockgtq::likeliest(logits.data(), int64_t(logits.size())));
  }
  std::span<const float> logits(int slot) override { return text(slot).logits; }
  int64_t cache_bytes(int slot) const override { return text(slot).sequence->cache_bytes(); }
  int64_t clipped(int slot) const override { return text(slot).sequence->clipped(); }

 private:
  struct Text {
    std::unique_ptr<Sequence> sequence;  // null: the slot is free
    std::span<const float> logits;       // behind the text's last token
  };

  int free_slot() const {
    const auto is_free = [](const Text& text) { return !text.sequence; };
    return int(std::find_if(texts_.begin(), texts_.end(), is_free) - texts_.begin());
  }
  void require_text(int slot) const {
    check(texts_.at(size_t(slot)).sequence != nullptr, "a slot without a text");
  }
  const Text& text(int slot) const {
    require_text(slot);
    return texts_[size_t(slot)];
  }

  const MakeSequence make_;
  std::vector<Text> texts_;
};

}  // namespace

std::unique_ptr<Batch> make_sequence_batch(int slots, MakeSequence make) {
  return std::make_unique<SequenceBatch>(slots, std::move(make));
}

}  // namespace blockgtq
