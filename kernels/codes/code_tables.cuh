#pragma once
#include <cstdint>

#include "kernels/codes/code_tables.h"

namespace blockgtq::cuda {

/// One group of a quantizer. Its coordinates take the slots [first, first + stride) of the head's group
/// order, where stride is d rounded up to a multiple of 4. Matrices are (stride, stride) with zeros beyond d.
/// Offsets count floats of CodeTables::numbers().
struct GroupTable {
  int d, bits, first, stride;
  int norm_byte, bit_offset;
  int64_t rotation, transpose;    // R, and R^T
  int64_t centroids, boundaries;  // (2^bits), (2^bits - 1)
};

inline constexpr int kMaxSlots = kMaxCodeDim + 2 * kMaxCodeGroups;

/// One quantizer. Groups are padded, so that four neighbouring slots (a quad) belong to the same group.
struct CodeTable {
  int dim, n_groups, n_slots, bytes;
  int64_t bytes_before;
  GroupTable groups[kMaxCodeGroups];
  int16_t coord[kMaxSlots];           // the head's coordinate by slot; -1: padding
  uint8_t quad_group[kMaxSlots / 4];  // the group of slots 4 i .. 4 i + 3
};
static_assert(sizeof(CodeTable) % 16 == 0);  // rows of float4 follow it in shared memory

}  // namespace blockgtq::cuda
