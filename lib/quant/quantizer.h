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

/// One TQ-MSE group of a code: its coordinates in order, and where its norm and its bit stream lie in the
/// code. It points into the quantizer.
struct CodeGroup {
  const TqMse* tq;
  std::span<const int> coords;   // (tq->dim()) indices into the vector
  size_t norm_byte, bit_offset;  // from the start of a code
};

/// Encodes n vectors of dim() floats, in the order of their tokens, into code_bytes(n) bytes, and decodes
/// them. The bytes are all that a cache would store: codes at their true bit width, norms and scales.
/// Immutable after construction; calls may run in parallel.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual int dim() const = 0;  // D
  /// The bytes of n vectors: n times those of one, except where consecutive tokens share a scale.
  virtual size_t code_bytes(size_t n = 1) const = 0;
  /// x (n, D) -> codes (code_bytes(n)), which are overwritten. Exit::nonfinite where require_codable() says
  /// so.
  virtual void encode(const float* x, size_t n, uint8_t* codes) const = 0;
  /// codes (code_bytes(n)) -> x (n, D)
  virtual void decode(const uint8_t* codes, size_t n, float* x) const = 0;

  /// How many fp16 numbers of the codes (norms, scales, zeros) are at the end of fp16's range: anything
  /// longer was clipped to 65504. codes (code_bytes(n)).
  virtual int64_t clipped(const uint8_t* codes, size_t n) const;

  /// Whether a vector's code depends on that vector alone, not on its neighbours.
  virtual bool per_vector() const { return true; }
  /// The TQ-MSE groups that make up a code; each coordinate is in one of them. Empty for a code that is not
  /// made of groups, which has no twin on a device.
  virtual std::vector<CodeGroup> groups() const { return {}; }
  /// The same quantizer in the form that a packed cache stores; none where it has no such form.
  virtual std::optional<LinearCode> linear_code() const { return std::nullopt; }

 protected:
  /// fp16 numbers at the start of the code of one vector.
  virtual size_t n_halves() const = 0;
};

/// Exit::nonfinite unless `finite`: whether a vector, and all that its code computes on the way, is finite.
void require_codable(bool finite);

/// How many of n fp16 numbers, low byte first, are at either end of the range.
int64_t count_clipped(const uint8_t* halves, size_t n);

}  // namespace blockgtq
