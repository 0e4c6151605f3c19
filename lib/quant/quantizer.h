#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quant/linear_code.h"

namespace blockgtq {

class TqMse;

/// One TQ-MSE group of a code: the coordinates it takes, in order, and where its norm and its bit stream lie.
/// Points into the quantizer.
struct CodeGroup {
  const TqMse* tq;
  std::span<const int> coords;   // (tq->dim()) indices into the vector
  size_t norm_byte, bit_offset;  // in a code
};

/// Turns n vectors of dim() floats, in the order of their tokens, into code_bytes(n) bytes and back. What
/// encode writes is all that a cache would store: true bits, norms and scales, nothing beside it. Immutable
/// after construction; calls may run in parallel.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual int dim() const = 0;  // D
  /// Of n vectors: n times those of one, except where neighbouring tokens share a scale.
  virtual size_t code_bytes(size_t n = 1) const = 0;
  /// x (n, D) -> codes (code_bytes(n)), whatever they held before
  virtual void encode(const float* x, size_t n, uint8_t* codes) const = 0;
  /// codes (code_bytes(n)) -> x (n, D)
  virtual void decode(const uint8_t* codes, size_t n, float* x) const = 0;

  /// How many fp16 numbers of the codes (norms, scales, zeros) stand at the end of fp16's range: what was
  /// longer was cut to 65504. codes (code_bytes(n))
  virtual int64_t clipped(const uint8_t* codes, size_t n) const;

  /// Whether a code stands for its vector alone, whatever its neighbours are.
  virtual bool per_vector() const { return true; }
  /// The TQ-MSE groups whose norms and streams make up a code, each coordinate in one of them; empty for what
  /// is not made of them, and has no twin on a device.
  virtual std::vector<CodeGroup> groups() const { return {}; }
  /// The same quantizer as a packed cache stores it, where it is of that form.
  virtual std::optional<LinearCode> linear_code() const { return std::nullopt; }

 protected:
  /// fp16 numbers at the start of the code of one vector.
  virtual size_t n_halves() const = 0;
};

/// Exit::nonfinite where a vector, or what a code makes of it on the way, is not finite.
void require_codable(bool finite);

/// Of n fp16 numbers, low byte first: those at the end of the range, of either sign.
int64_t count_clipped(const uint8_t* halves, size_t n);

}  // namespace blockgtq
