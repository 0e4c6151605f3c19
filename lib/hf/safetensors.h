#pragma once
#include <cstdint>
#include <vector>

#include "base/file.h"
#include "hf/tensor.h"

namespace blockgtq {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes
/// JSON values in it, 9 of a tensor of two dimensions: 116,000 of those. Keeps a hostile header under 500 MB.
inline constexpr size_t kMaxHeaderValues = size_t(1) << 20;

/// Reads and checks the header of one safetensors file: length, JSON (no duplicate names), dtypes, shapes
/// against byte ranges, ranges that neither overlap nor leave holes and end at the file's end.
std::vector<Tensor> read_safetensors(const MappedFile& file);

}  // namespace blockgtq
