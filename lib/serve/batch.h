#pragma once
#include <cstdint>
#include <span>

namespace blockgtq {

inline constexpr int kMostTexts = 16;  // slots of a batch

/// Texts that are read and written together, each in a slot: the model, and a cache that holds keys and
/// values of each text. A text's logits do not depend on the other texts, except through the order in which a
/// device adds. Functions of a slot must be called only while it holds a text.
class Batch {
 public:
  virtual ~Batch() = default;
  virtual int slots() const = 0;

  /// Exit::device where a text of so many tokens has no room even alone.
  virtual void require(int64_t tokens) const = 0;
  /// Whether it has room now: a free slot, and pages besides those that the other texts may need.
  virtual bool has_room(int64_t tokens) const = 0;

  /// Reads the prompt of a new text that may grow to `most` tokens, prompt included. There must be room.
  /// Returns its slot.
  virtual int add(std::span<const int32_t> prompt, int64_t most) = 0;
  /// Appends one token to every text: tokens (slots). Those of free slots are not read.
  virtual void step(std::span<const int32_t> tokens) = 0;
  /// Ends a text: its slot and its pages are free again.
  virtual void end(int slot) = 0;

  /// What the model predicts behind a text's last token: the likeliest token (the lowest id on ties), or all
  /// logits (vocab), which are valid until the next step() or the text's end.
  virtual int32_t likeliest(int slot) = 0;
  virtual std::span<const float> logits(int slot) = 0;

  /// Bytes of cache that the text's tokens take; and how many fp16 norms were clipped to 65504.
  virtual int64_t cache_bytes(int slot) const = 0;
  virtual int64_t clipped(int slot) const = 0;
};

}  // namespace blockgtq
