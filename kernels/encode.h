#pragma once
#include <cstdint>
#include <vector>

#include "code_tables.h"
#include "float_type.h"

namespace blockgtq::cuda {

/// Encodes keys at memory speed for serving, on the tensor cores: the bytes' order is the CPU's, the codes
/// are equal but for 3 in 10 000 at 3 bits, 1 in 1000 at most (encode.cu derives it), norms to one unit of
/// fp16. Quantizers of one head dimension, a multiple of 8 up to 128, one per KV head.
class Encoder {
 public:
  /// type: of the keys it will see.
  Encoder(const std::vector<CodeSpec>& heads, FloatType type, const Stream& stream);

  /// Whether these quantizers fit this device; encode_exact() serves the others.
  static bool fits(const std::vector<CodeSpec>& heads, FloatType type);

  /// keys (T, H, D), finite, 16-byte aligned -> codes, head by head (T, bytes) one after the other, as in
  /// CodeBatch.
  void encode(const void* keys, int64_t n_tokens, uint8_t* codes, const Stream& stream) const;

 private:
  int dim_, n_heads_, code_bytes_;  // the longest code of a head
  FloatType type_;
  int64_t table_bytes_;  // of one head
  Buffer tables_;        // (H, table_bytes)
};

}  // namespace blockgtq::cuda
