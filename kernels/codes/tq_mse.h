#pragma once
#include <cstdint>

#include "kernels/codes/code_tables.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// Keys and their codes: H heads, which use quantizers [first, first + H) of the tables.
struct CodeBatch {
  const CodeTables* tables = nullptr;
  int first = 0, n_heads = 0;
  int64_t n_tokens = 0;

  /// The offset of head h's codes (T, bytes of quantizer first + h). Those of all heads lie one
  /// after the other.
  int64_t offset(int h) const {
    return n_tokens * (tables->bytes_before(first + h) - tables->bytes_before(first));
  }
  int64_t code_bytes() const { return offset(n_heads); }
};

/// keys (T, H, D) -> codes, exactly the CPU's bytes (for 16-bit keys those of the keys as float32). Where
/// `sums` is not null, sums (H, 2) = sum |k - k_hat|^2 and sum |k|^2 of each head over its tokens. It needs
/// exact_scratch() doubles of scratch.
void encode_exact(const CodeBatch& batch, const void* keys, FloatType type, uint8_t* codes, double* sums,
                  double* scratch, const Stream& stream);
int64_t exact_scratch(const CodeBatch& batch);

/// codes -> keys (T, H, D) float32, exactly the CPU's numbers.
void decode_exact(const CodeBatch& batch, const uint8_t* codes, float* keys, const Stream& stream);

}  // namespace blockgtq::cuda
