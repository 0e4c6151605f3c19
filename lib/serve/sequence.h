#pragma once
#include <cstdint>
#include <span>

#include "cache/attention.h"

namespace blockgtq {

/// Tokens of a prompt that are read together where nothing else is said.
inline constexpr int64_t kPromptChunk = 2048;

/// A text that grows: the model that reads it, and what a cache of some kind holds of its keys and values.
class Sequence {
 public:
  virtual ~Sequence() = default;
  /// The logits (vocab) behind the last of these tokens, which go on with the text; valid until the next
  /// call. The first call takes the whole prompt.
  virtual std::span<const float> append(std::span<const int32_t> tokens) = 0;
  /// Keys after RoPE and values of a layer as the cache gives them back, (T, H, D): for checks.
  virtual PlainPositions held(int layer) const = 0;
  /// Bytes of cache that the tokens so far take.
  virtual int64_t cache_bytes() const = 0;
  /// fp16 norms that were cut to 65504 so far.
  virtual int64_t clipped() const { return 0; }
};

}  // namespace blockgtq
