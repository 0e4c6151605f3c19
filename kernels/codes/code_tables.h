#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

inline constexpr int kMaxCodeDim = 256;  // longer heads run on the CPU
inline constexpr int kMaxCodeGroups = 8;

/// One TQ-MSE group of a quantizer, as the host holds it.
struct GroupSpec {
  int bits = 0;
  std::span<const int> coords;        // (d) indices into the head, d even
  std::span<const float> rotation;    // (d, d) row-major; the same address means the same numbers
  std::span<const float> centroids;   // (2^bits) ascending
  std::span<const float> boundaries;  // (2^bits - 1) ascending
  size_t norm_byte = 0, bit_offset = 0;
};

/// One quantizer. A code of `bytes` bytes holds the fp16 norms and the bit streams of the groups.
struct CodeSpec {
  int dim = 0;
  size_t bytes = 0;
  std::vector<GroupSpec> groups;
};

struct CodeTable;  // one quantizer in device memory, see code_tables.cuh

/// Quantizers of one head dimension in device memory: rotations, codebooks, and the offsets of both. A
/// rotation that several quantizers share is stored once.
class CodeTables {
 public:
  CodeTables(const std::vector<CodeSpec>& specs, const Stream& stream);
  int size() const { return int(bytes_before_.size()) - 1; }
  int dim() const { return dim_; }
  /// The sum of the code bytes of quantizers [0, i), i <= size().
  int64_t bytes_before(int i) const { return bytes_before_.at(i); }
  const CodeTable* tables() const { return tables_.as<CodeTable>(); }
  const float* numbers() const { return numbers_.as<float>(); }

 private:
  int dim_;
  std::vector<int64_t> bytes_before_;  // (size + 1)
  Buffer tables_, numbers_;
};

}  // namespace blockgtq::cuda
