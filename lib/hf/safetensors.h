#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes
/// JSON values in it, 9 of a tensor of two dimensions: 116,000 of those. Keeps a hostile header under 500 MB.
inline constexpr size_t kMaxHeaderValues = size_t(1) << 20;

enum class DType { f32, f16, bf16, other };
const char* name(DType);

/// A tensor where it lies in a mapped file; row-major.
struct Tensor {
  std::string name;
  DType dtype = DType::other;
  std::string dtype_name;           // as the file spells it: "BF16", "F8_E4M3", ...
  std::vector<int64_t> shape;       // may be empty (a scalar)
  std::span<const std::byte> data;  // elements * element size bytes

  int64_t elements() const;
  /// Rows [first, first + n) of a tensor of one or two dimensions (a fused projection is taken apart so).
  Tensor rows(int64_t first, int64_t n) const;
  /// out[i] = element first + i, as float32.
  void read(int64_t first, int64_t n, float* out) const;
};

/// Reads and checks the header of one safetensors file: length, JSON (no duplicate names), dtypes, shapes
/// against byte ranges, ranges that neither overlap nor leave holes and end at the file's end.
std::vector<Tensor> read_safetensors(const MappedFile& file);

}  // namespace blockgtq
