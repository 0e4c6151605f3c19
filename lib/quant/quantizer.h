#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace blockgtq {

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
};

}  // namespace blockgtq
