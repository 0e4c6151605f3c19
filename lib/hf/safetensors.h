#pragma once
#include <cstdint>
#include <vector>

#include "base/file.h"
#include "hf/tensor.h"

namespace blockgtq {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes
/// The most JSON values in a header. A tensor of two dimensions has 9, so that is 116,000 tensors. It keeps a
/// hostile header under 500 MB.
inline constexpr size_t kMaxHeaderValues = size_t(1) << 20;

/// Reads and checks the header of one safetensors file: length, JSON (no duplicate names), dtypes, and shapes
/// against byte ranges, which must not overlap, leave no holes and end at the file's end. Errors are
/// Exit::input.
std::vector<Tensor> read_safetensors(const MappedFile& file);

}  // namespace blockgtq
