#pragma once
#include <cstdint>
#include <span>

namespace blockgtq {

inline constexpr int kMostTexts = 16;  // slots of a batch

/// Texts that grow side by side, each in a slot of its own: the model that reads them, and what a cache holds
/// of each. A text's logits do not depend on the others but for the order in which a device adds up. A slot's
/// functions want it to hold a text.
class Batch {
 public:
  virtual ~Batch() = default;
  virtual int slots() const = 0;

  /// Exit::device where a text that comes to so many tokens finds no room even alone.
  virtual void require(int64_t tokens) const = 0;
  /// Whether it finds room now: a slot, and pages beside those that the others may come to.
  virtual bool has_room(int64_t tokens) const = 0;

  /// Reads the prompt of a new text that may come to `most` tokens, for which there is room; its slot.
  virtual int add(std::span<const int32_t> prompt, int64_t most) = 0;
  /// One more token of every text; tokens (slots), those of free slots are not read.
  virtual void step(std::span<const int32_t> tokens) = 0;
  /// The text is done: its slot is free, and its pages.
  virtual void end(int slot) = 0;

  /// What comes behind a text's last token: the likeliest token, the lowest id of equals; and all logits
  /// (vocab), valid until the next step() or the text's end.
  virtual int32_t likeliest(int slot) = 0;
  virtual std::span<const float> logits(int slot) = 0;

  /// Bytes of cache that the text's tokens take; fp16 norms that were cut to 65504.
  virtual int64_t cache_bytes(int slot) const = 0;
  virtual int64_t clipped(int slot) const = 0;
};

}  // namespace blockgtq
