// Decodes a page's trellis codes to fp16 operands of the products that turn keys and values back. It is what
// packed_tiles.cuh is for scalar codes, with coordinates in order. Part of prefill_tiles.cu.
//
// A lane cuts the windows of an operand's eight coordinates out of the page, two bytes each, and looks them
// up in the table of bytes. An entry is a byte / 128, which is exact.
#pragma once
#include <cuda_fp16.h>

#include "cache/trellis_page.h"
#include "kernels/cache/trellis_table.h"
#include "quant/trellis.h"

namespace blockgtq::cuda {

/// Byte y of a position's stream, which is circular. codes: of keys or of values.
template <int kDim>
__device__ inline uint32_t stream_byte(const uint8_t* codes, int bits, bool keys, int position, int y) {
  const int bytes = kDim * bits / 8;
  return codes[trellis_bit(kDim, bits, keys, position, 8 * (y < 0 ? y + bytes : y)) / 8];
}

/// Coordinates j and j + 1 of a position, divided by 128, in fp16.
template <int kDim>
__device__ inline uint32_t two_parts(const uint8_t* codes, int bits, bool keys, const int8_t* table,
                                     int position, int j) {
  const auto part = [&](int of) {
    const int end = bits * (of + 1), last = (end - 1) / 8;  // the window ends with bit end - 1, in byte last
    const uint32_t both = stream_byte<kDim>(codes, bits, keys, position, last - 1) |
                          stream_byte<kDim>(codes, bits, keys, position, last) << 8;
    const uint32_t window = both >> (end - 8 * last) & (kTrellisStates - 1);
    return uint32_t(__half_as_ushort(__float2half_rn(float(__ldg(table + window)) / 128)));
  };
  return part(j) | part(j + 1) << 16;
}

/// Decodes one slab of a page's keys or values, by one warp, to operands in the order of packed_tiles.cuh.
template <int kDim>
__device__ inline void expand_trellis(int slab, const uint8_t* codes, int bits, bool keys,
                                      const int8_t* table, uint4* to) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4, first = 16 * slab + 2 * c;
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    const auto at = [&](int position, int j) {
      return two_parts<kDim>(codes, bits, keys, table, 16 * i + position, j);
    };
    const uint32_t near = at(r, first), near_on = at(r, first + 8), far = at(8 + r, first),
                   far_on = at(8 + r, first + 8);
    to[(4 * slab + i) * 32 + lane] =
        keys ? uint4{near, far, near_on, far_on} : uint4{near, near_on, far, far_on};
  }
}

}  // namespace blockgtq::cuda
