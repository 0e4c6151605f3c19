#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace blockgtq {

class TqMse;

/// One TQ-MSE group of a code: the coordinates it takes, in order, and where its norm and its bit stream lie.
/// Points into the quantizer.
struct CodeGroup {
  const TqMse* tq;
  std::span<const int> coords;   // (tq->dim()) indices into the vector
  size_t norm_byte, bit_offset;  // in a code
};

/// Turns vectors of dim() floats into code_bytes() bytes each and back. What encode writes is all that a
/// cache would store: true bits and fp16 norms, nothing beside it. Immutable after construction; calls may
/// run in parallel.
class Quantizer {
 public:
  virtual ~Quantizer() = default;
  virtual int dim() const = 0;            // D
  virtual size_t code_bytes() const = 0;  // per vector
  /// x (n, D) -> codes (n, code_bytes)
  virtual void encode(const float* x, size_t n, uint8_t* codes) const = 0;
  /// codes (n, code_bytes) -> x (n, D)
  virtual void decode(const uint8_t* codes, size_t n, float* x) const = 0;
  /// The groups whose norms and streams make up a code, each coordinate in one of them.
  virtual std::vector<CodeGroup> groups() const = 0;
};

}  // namespace blockgtq
