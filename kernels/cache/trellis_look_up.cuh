// Turns trellis codes of one lane into operands of the tensor cores: bytes are looked up by
// windows of a stream.
//
// Every coordinate has a window of its own, so that a look-up is an address and a load from shared memory,
// where four scalar codes are one permutation (unpack.cuh). Three things make it cheap enough: tables in
// which all lanes read at once (see trellis_table.h), several coordinates by one look-up, and windows that
// are cut out of words by shifts known at compile time. Instructions for four coordinates, and cycles of
// shared memory:
//
//   3 bits  two shifts, two masks (which put the lane in, too), two loads, the selector, the permutation that
//           selects and joins: 8, 2 cycles
//   2 bits  shift, mask, load: 3, 3.5 cycles
//   4 bits  four permutations for addresses, half a shift, four loads, three to join: 11.5, 4 cycles
//
// Scalar codes take 2.4 (4 bits: 4.5). Values take one permutation more where one look-up gives several
// coordinates, because a word of their operand holds two positions.
#pragma once
#include "cache/trellis_page.h"
#include "kernels/cache/trellis_table.h"
#include "kernels/device/ptx.cuh"

namespace blockgtq::cuda {

/// A lane's words of a tile (cache/trellis_page.h), and those words of its neighbour that end chunks.
template <int kDim, int kBits, bool kKeys>
struct TileStream {
  static constexpr int kWords = lane_words(kDim, kBits), kChunk = kDim * kBits / (kKeys ? 4 : 8),
                       kChunks = kKeys ? 2 : 4;
  uint32_t w[kWords], before[kWords];

  static constexpr bool ends_chunk(int word) {
    for (int chunk = 1; chunk <= kChunks; ++chunk)
      if ((chunk * kChunk - 1) / 32 == word) return true;
    return false;
  }
  /// codes: of keys or of values.
  __device__ __forceinline__ TileStream(const uint8_t* codes, int tile) {
    constexpr int kPiece = piece_words(kDim, kBits);
    const int lane = threadIdx.x % 32;
    const uint8_t* const from = codes + tile * (kWords * 128) + lane * (4 * kPiece);
#pragma unroll
    for (int j = 0; j < kWords; j += kPiece) {
      if constexpr (kPiece == 4) {
        const uint4 x = *reinterpret_cast<const uint4*>(from + 128 * j);
        w[j] = x.x, w[j + 1] = x.y, w[j + 2] = x.z, w[j + 3] = x.w;
      } else if constexpr (kPiece == 2) {
        const uint2 x = *reinterpret_cast<const uint2*>(from + 128 * j);
        w[j] = x.x, w[j + 1] = x.y;
      } else {
        w[j] = *reinterpret_cast<const uint32_t*>(from + 128 * j);
      }
    }
    const int neighbour = kKeys ? (lane & 28) | ((lane + 3) & 3) : lane + 28;
#pragma unroll
    for (int j = 0; j < kWords; ++j)
      if (ends_chunk(j)) before[j] = __shfl_sync(kAll, w[j], neighbour);
  }

  /// Bits [at, at + n) of a chunk, n <= 14, moved to bit `place` of a word and on. `at` may be down to -8,
  /// which is before the chunk. below: the bits before them lie below them, as far as the word goes.
  /// Otherwise the bits below are arbitrary, as those above are. All but the stream is known at compile time.
  __device__ __forceinline__ uint32_t bits(int chunk, int at, int n, int place, bool below) const {
    const int start = chunk * kChunk, end = start + kChunk, first = start + at, offset = (first + 32) % 32;
    if (at < (below ? place : 0)) {
      const uint32_t last = before[(end - 1) / 32];
      if (start % 32 == 0 && end % 32 == 0) return __funnelshift_l(last, w[start / 32], place - at);
      const uint32_t next = start / 32 + 1 < kWords ? w[start / 32 + 1] : 0;
      const uint32_t head = __funnelshift_r(w[start / 32], next, start % 32);
      const uint32_t joined = permute(last, head, 0x6540u | uint32_t((end - 1) % 32 / 8));
      return place <= at + 8 ? joined >> (at + 8 - place) : joined << (place - at - 8);
    }
    if (!below && offset + n <= 32)
      return offset >= place ? w[first / 32] >> (offset - place) : w[first / 32] << (place - offset);
    const int low = first - place;
    if (low % 32 + place + n <= 32) return w[low / 32] >> (low % 32);
    return __funnelshift_r(w[low / 32], w[low / 32 + 1], low % 32);
  }
};

/// Numbers that are arguments of the kernel, so that the compiler does not know them. Two operands of one
/// instruction cannot be constants, and a multiplication by a known power of two becomes a permutation.
struct LookUpNumbers {
  // Selects bytes of two pairs' words, without the bits that choose a coordinate: the first word's byte 0 and
  // byte 2, the second's byte 2 and byte 0.
  uint32_t selector = 0x4620;
  uint32_t byte = 1u << 8, half = 1u << 16;
};

/// x & mask | y by one instruction, which the compiler does not always find.
template <uint32_t kMask>
__device__ __forceinline__ uint32_t cut(uint32_t x, uint32_t y) {
  uint32_t z;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;\n" : "=r"(z) : "r"(x), "n"(kMask), "r"(y));
  return z;
}

/// A look-up table in shared memory, and what a lane needs for reading it. kOther: the bits of
/// the other side.
template <int kBits, int kOther>
struct LookUpTable {
  static constexpr LookUp kLookUp = look_up_of(kBits, kOther);
  static constexpr bool kSelects = kBits == 3;  // a pair's address lacks one bit, which selects bytes
  static constexpr int kRow = row_bytes(kBits, kOther);
  uint32_t table;  // its address in shared memory
  uint32_t lane;   // 4 times the lane's number
  LookUpNumbers numbers;
  __device__ LookUpTable(const void* table, const LookUpNumbers& numbers)
      : table(uint32_t(kept(int(shared_address(table))))), lane(threadIdx.x % 32 * 4), numbers(numbers) {}
  __device__ __forceinline__ uint32_t word(uint32_t at) const {
    uint32_t x;
    asm("ld.shared.u32 %0, [%1];\n" : "=r"(x) : "r"(table + at));
    return x;
  }
  __device__ __forceinline__ uint32_t byte(uint32_t at) const {
    uint32_t x;
    asm("ld.shared.u8 %0, [%1];\n" : "=r"(x) : "r"(table + at));
    return x;
  }
  /// Joins two times two bytes, or four bytes, to a word. It does not use the pipe that shifts and
  /// permutations wait for.
  __device__ __forceinline__ uint32_t join(uint32_t first, uint32_t second) const {
    return second * numbers.half + first;
  }
  __device__ __forceinline__ uint32_t join(uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3) const {
    return join(x1 * numbers.byte + x0, x3 * numbers.byte + x2);
  }

  static constexpr int kFills = table_rows(kBits, kOther) / 4;  // steps of four rows
  /// What this thread fills the table with first. It is loaded long before.
  __device__ static uint4 first_rows(const uint32_t* centroids) {
    return int(threadIdx.x) < kFills ? reinterpret_cast<const uint4*>(centroids)[threadIdx.x] : uint4{};
  }
  /// Fills the table. All threads of the block call it. Eight threads write to different banks, each to a row
  /// of its own. rows: first_rows().
  __device__ static void fill(uint8_t* table, const uint32_t* centroids, uint4 rows) {
    for (int i = threadIdx.x; i < kFills;) {
      const uint32_t words[4] = {rows.x, rows.y, rows.z, rows.w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const uint32_t x = words[j];
          *reinterpret_cast<uint4*>(table + (4 * i + j) * kRow + (k ^ threadIdx.x % 8) * 16) = {x, x, x, x};
        }
      i += blockDim.x;
      if (i < kFills) rows = reinterpret_cast<const uint4*>(centroids)[i];
    }
  }

  /// Four coordinates of 3 bits and four more, in the order of quad_coordinate(): words 2 group
  /// and 2 group + 1.
  template <class Stream>
  __device__ __forceinline__ void pairs(const Stream& stream, int chunk, int group, uint32_t& first,
                                        uint32_t& second) const {
    uint32_t t[4], x[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // 10 bits of a window, from bit 7 on. The window's first bit lies at bit 0 of the next pair's t, and at
      // bit 12 of the one before. A selector of bytes has room for it there.
      t[k] = stream.bits(chunk, 24 * group + 6 * k - 4, 10, 7, k == 1 || k == 2);
      x[k] = word(cut<0x1ff80>(t[k], lane));
    }
    first = permute(x[0], x[2], cut<0x1001>(t[1], numbers.selector));
    second = permute(x[1], x[3], cut<0x1001>(t[2], numbers.selector));
  }
  /// Two coordinates of 2 bits, as a word.
  template <class Stream>
  __device__ __forceinline__ uint32_t pair(const Stream& stream, int chunk, int k) const {
    return word(cut<0x1ff80>(stream.bits(chunk, 4 * k - 6, 10, 7, false), lane));
  }
  /// One coordinate of a chunk.
  template <class Stream>
  __device__ __forceinline__ uint32_t single(const Stream& stream, int chunk, int j) const {
    const int at = kBits * j + kBits - 8;
    if constexpr (kRow == 256) {  // a window is a byte of the words, or begins half a byte on
      static_assert(kBits == 4 && Stream::kChunk % 32 == 0);
      const int half = at % 8 != 0 ? 4 : 0, first = chunk * Stream::kChunk + at + half;
      uint32_t bits = stream.w[first / 32];
      if (half) {
        const uint32_t last = first % Stream::kChunk < 32
                                  ? stream.before[((chunk + 1) * Stream::kChunk - 1) / 32]
                                  : stream.w[(first + 31) / 32 - 1];
        bits = __funnelshift_l(last, bits, half);
      }
      return byte(permute(bits, lane, 0x5504u | uint32_t(first % 32 / 8 << 4)));
    } else {
      return byte(cut<0x7f80>(stream.bits(chunk, at, 8, 7, false), lane));
    }
  }
};

/// The A fragment of keys for a product: positions r and 8 + r, words 2 step and 2 step + 1 of a chunk.
template <class Table, class Stream>
__device__ __forceinline__ void key_operand(uint32_t (&a)[4], const Table& table, const Stream& stream,
                                            int step) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    if constexpr (Table::kSelects) {
      table.pairs(stream, row, step, a[row], a[2 + row]);
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int m = 2 * step + half;
        if constexpr (Table::kLookUp == LookUp::pair)
          a[row + 2 * half] = table.join(table.pair(stream, row, 2 * m), table.pair(stream, row, 2 * m + 1));
        else
          a[row + 2 * half] =
              table.join(table.single(stream, row, 4 * m), table.single(stream, row, 4 * m + 1),
                         table.single(stream, row, 4 * m + 2), table.single(stream, row, 4 * m + 3));
      }
    }
  }
}

/// The A fragments of values, words 2 group and 2 group + 1 of a chunk. Row r is a word's first two
/// coordinates, and row 8 + r the other two. The bytes are two coordinates of one position, then of the next.
template <class Table, class Stream>
__device__ __forceinline__ void value_operands(uint32_t (&a)[2][4], const Table& table, const Stream& stream,
                                               int group) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int chunk = 2 * j;
    if constexpr (Table::kSelects) {
      uint32_t x[2][2];  // (position, word)
#pragma unroll
      for (int p = 0; p < 2; ++p) table.pairs(stream, chunk + p, group, x[p][0], x[p][1]);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        a[i][2 * j] = permute(x[0][i], x[1][i], 0x5410u);
        a[i][2 * j + 1] = permute(x[0][i], x[1][i], 0x6723u);
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int k = 4 * group + i;
        uint32_t& to = a[i / 2][2 * j + i % 2];
        if constexpr (Table::kLookUp == LookUp::pair)
          to = table.join(table.pair(stream, chunk, k), table.pair(stream, chunk + 1, k));
        else
          to = table.join(table.single(stream, chunk, 2 * k), table.single(stream, chunk, 2 * k + 1),
                          table.single(stream, chunk + 1, 2 * k), table.single(stream, chunk + 1, 2 * k + 1));
      }
    }
  }
}

}  // namespace blockgtq::cuda
