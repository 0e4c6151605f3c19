#pragma once
#include <cstdint>
#include <span>

#include "cache/attention.h"

namespace blockgtq {

/// The default of how many tokens of a prompt are read together.
inline constexpr int64_t kPromptChunk = 2048;

/// A text that grows: the model that reads it, and a cache of some kind that holds its keys and values.
class Sequence {
 public:
  virtual ~Sequence() = default;
  /// Appends tokens to the text and returns the logits (vocab) behind the last of them, which are valid until
  /// the next call. The first call takes the whole prompt. Exit::nonfinite where an activation or a logit is
  /// not finite.
  virtual std::span<const float> append(std::span<const int32_t> tokens) = 0;
  /// Keys after RoPE and values of a layer as the cache decodes them, (T, H, D); for tests.
  virtual PlainPositions held(int layer) const = 0;
  /// Bytes of cache that the text so far takes.
  virtual int64_t cache_bytes() const = 0;
  /// fp16 norms that were clipped to 65504 so far.
  virtual int64_t clipped() const { return 0; }
};

}  // namespace blockgtq
