// What the fast encoder keeps of one head: thresholds, and the rotations of all groups as one matrix in the
// order in which the lanes of a warp feed it to mma.sync. Built on the host once.
//
//   [EncodeTable][thresholds: positive boundaries per group, ascending][fragments]
//
//   fragments (tile of a group)(pair of depth steps)(lane): 16 bytes, the B operand of two m16n8k16 steps
//
// The matrix is (D, outputs): row = coordinate of the head in its raw order, zero where the coordinate is not
// in the output's group. So keys are never permuted. Rows and columns come in an order that suits the lanes:
//   depth:  lane c of a quad reads 16 contiguous bytes of a key; those are its elements of the A operand.
//   output: lane c of a quad holds outputs 2c, 2c + 1 of every tile; they are c * 2 n_tiles + 2 tile + {0, 1}
//   of
//           the group, so that a lane's codes are neighbours in the bit stream and are packed without
//           shuffles.
#pragma once
#include <cstdint>
#include <vector>

#include "code_tables.h"
#include "float_type.h"

namespace blockgtq::cuda {

struct EncodeGroup {
  int d, bits, n_tiles;  // tiles of 8 outputs, an even number
  int norm_byte, bit_offset;
  int thresholds;  // first float of 2^(bits - 1) - 1
  int high, low;   // first fragment; low = -1 where the fp16 rounding of R is left alone
};

struct alignas(16) EncodeTable {
  int n_groups, bytes;
  int64_t bytes_before;  // of one code of the heads before
  EncodeGroup groups[kMaxCodeGroups];
  int thresholds, fragments;  // bytes from the start of the table
};

/// Groups from this width on get R in two fp16 parts.
inline constexpr int kFineBits = 6;

/// The tables of all heads, each table_bytes long (a multiple of 16).
std::vector<uint8_t> build_encode_tables(const std::vector<CodeSpec>& heads, FloatType type,
                                         int64_t& table_bytes);

}  // namespace blockgtq::cuda
