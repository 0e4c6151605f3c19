// Products of prepared queries with packed keys: S^T (positions, heads). Part of packed_attention.cu.
#pragma once
#include <cmath>
#include <type_traits>

#include "kernels/cache/packed_step.cuh"
#include "kernels/cache/splits.cuh"

namespace blockgtq::cuda {

constexpr int kZero = 0x4b400000;  // the start of an integer accumulator, which reads 1.5 x 2^23 as float32
using Zero = int[4];               // the starting accumulators of a product, kept in registers
constexpr float kZeroRead = 12582912.0f;  // kZero as float32
constexpr float kByteOne = 127;           // a centroid of one

/// Scores of kParts tiles of 16 positions of a page, from tile `part` on: element j is position
/// 16 i + 8 (j / 2) + r, head 2 c + j % 2.
template <int kTiles, int kParts>
using Scores = float[kTiles][kParts][4];
template <int kTiles, int kParts>
using Sums = int[kTiles][kParts][4];

/// This lane's index among the 32 lanes of a slab's four units, which are stored one after the other.
__device__ inline int unit_lane() {
  return threadIdx.x % 4 * 8 + threadIdx.x % 32 / 4;
}

/// Multiplies a slab's keys by a norm per position, where every group has its norm.
__device__ inline void scale_rows(Operands& a, const uint32_t (&pair)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t x = without_signs(pair[i]), low = permute(x, x, 0x1010u), high = permute(x, x, 0x3232u);
#pragma unroll
    for (int j = 0; j < 4; ++j) a[i][j] = multiply2(a[i][j], j % 2 ? high : low);
  }
}

/// Sets integer accumulators to their start.
template <int kTiles, int kParts>
__device__ inline void reset(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const Zero& zero) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) high[tile][i][j] = low[tile][i][j] = zero[j];
}

/// s += sums times the norms of positions (pair; null: 1) and the value of one step of fixed point, which
/// follows from longest_row (see KeyGroup). kFirst: s = instead of s +=.
template <int kTiles, int kParts, bool kFirst = false>
__device__ inline void take_sums(Scores<kTiles, kParts>& s, const Sums<kTiles, kParts>& high,
                                 const Sums<kTiles, kParts>& low, const uint32_t* pair, float longest_row,
                                 int part) {
  const float one = longest_row * (1 / (kQuerySteps * kByteOne));
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = pair ? norms_of(pick<4>(pair, part + i)) : make_float2(1, 1);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float sum =
            fmaf(__int_as_float(high[tile][i][j]) - kZeroRead, 256.0f, __int_as_float(low[tile][i][j]));
        const float unit = (j < 2 ? x.x : x.y) * one;
        s[tile][i][j] = fmaf(sum, unit, kFirst ? -kZeroRead * unit : fmaf(-kZeroRead, unit, s[tile][i][j]));
      }
  }
}

/// s *= the norms of positions.
template <int kTiles, int kParts>
__device__ inline void multiply_norms(Scores<kTiles, kParts>& s, const uint32_t (&pair)[4], int part) {
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = norms_of(pick<4>(pair, part + i));
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[tile][i][j] *= j < 2 ? x.x : x.y;
  }
}

/// Adds the products of two slabs' codes, or of one slab of 4 bits (w[0]), with the queries of a whole
/// product. kStart: the accumulators begin here.
template <int kTiles, int kParts, bool kStart, int kBits>
__device__ inline void add_pair(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low,
                                const uint32_t (&w)[2][kBits], const ByteBook& book, const uint8_t* queries,
                                int part, const Zero& zero) {
  uint4 q[kTiles];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) q[tile] = reinterpret_cast<const uint4*>(queries)[tile * 32];
  uint32_t a[kParts][4];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const uint32_t codes = nibbles<kBits>(w[0], part + i);
    look_up_first<kBits>(book, codes, a[i][0], a[i][1]);
    if constexpr (kBits == 4)
      look_up_last(book, codes, a[i][2], a[i][3]);
    else
      look_up_first<kBits>(book, nibbles<kBits>(w[1], part + i), a[i][2], a[i][3]);
  }
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      if constexpr (kStart) {
        mma_first<false>(high[tile][i], a[i], q[tile].x, q[tile].y, zero);
        mma_first<false>(low[tile][i], a[i], q[tile].z, q[tile].w, zero);
      } else {
        mma<false>(high[tile][i], a[i], q[tile].x, q[tile].y);
        mma<false>(low[tile][i], a[i], q[tile].z, q[tile].w);
      }
  }
}

/// Adds the products of one slab's codes, of up to 3 bits, with the queries of half a product.
template <int kTiles, int kParts, int kBits>
__device__ inline void add_half(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low,
                                const uint32_t (&w)[kBits], const ByteBook& book, const uint8_t* queries,
                                int part) {
  uint2 q[kTiles];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) q[tile] = reinterpret_cast<const uint2*>(queries)[tile * 32];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    uint32_t a[2];
    look_up_first<kBits>(book, nibbles<kBits>(w, part + i), a[0], a[1]);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      mma(high[tile][i], a, q[tile].x);
      mma(low[tile][i], a, q[tile].y);
    }
  }
}

constexpr int slab_bytes(int bits) {
  return kSlab * kPagePositions / 8 * bits;
}

/// Adds the next pair of whole slabs, or the next slab of 4 bits, from this lane's words.
template <int kTiles, int kParts, bool kStart, int kBits>
__device__ inline void add_slabs(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const uint8_t* codes,
                                 const ByteBook& book, const uint8_t* queries, int part, const Zero& zero) {
  uint32_t w[2][kBits];
  load_words<kBits>(w[0], codes, 0, false);
  if constexpr (kBits < 4) load_words<kBits>(w[1], codes + slab_bytes(kBits), 0, false);
  add_pair<kTiles, kParts, kStart, kBits>(high, low, w, book, queries, part, zero);
}

/// What every page wants of the table. It is read once, because between pages the compiler assumes that
/// shared memory has changed. kKeyBits, kValueBits: see Widths.
template <int kKeyBits, int kValueBits>
struct HeldTable {
  int key_norms, value_norms, value_codes;
  ByteBook key_book, value_book;  // where there is one width; see add_values()
  __device__ explicit HeldTable(const uint8_t* from) {
    const PackedTable& t = *reinterpret_cast<const PackedTable*>(from);
    key_norms = t.key_norms;
    value_norms = t.value_norms;
    if constexpr (kKeyBits > 0)
      key_book = *reinterpret_cast<const ByteBook*>(
          reinterpret_cast<const KeyGroup*>(from + t.groups)[kKeyBits - 1].books);
    if constexpr (kValueBits > 0) {
      const UnitEntry& unit = units_of(from)[4 * t.key_slabs];
      value_codes = unit.offset;
      value_book =
          *reinterpret_cast<const ByteBook*>(from + unit.book + (kKeyBits <= 0 ? threadIdx.x % 2 * 16 : 0));
    }
  }
};

/// s = keys . prepared queries, where all coordinates have kBits.
template <int kDim, int kTiles, int kParts, int kBits, int kValueBits>
__device__ void score_uniform(Scores<kTiles, kParts>& s, const uint8_t* block,
                              const HeldTable<kBits, kValueBits>& table, const Queries& queries, int part,
                              int valid, const Zero& zero) {
  constexpr int kSlabs = kBits == 4 ? 1 : 2;  // slabs of a product
  const int lane = threadIdx.x % 32;
  const uint8_t* const codes = block + unit_lane() * 4 * kBits;
  Sums<kTiles, kParts> high, low;
  const auto add = [&](auto start, int pair) {
    add_slabs<kTiles, kParts, start.value, kBits>(
        high, low, codes + pair * kSlabs * slab_bytes(kBits), table.key_book,
        queries.fixed + 16 * (pair * kTiles * 32 + lane), part, zero);
  };
  add(std::true_type(), 0);
#pragma unroll
  for (int pair = 1; pair < kDim / 16 / kSlabs; ++pair) add(std::false_type(), pair);
  uint32_t norms[4];
  load_norms(norms, block + table.key_norms, lane / 4, valid);
  take_sums<kTiles, kParts, true>(s, high, low, norms, 1, part);
}

/// Loads a lane's words of a tail. Half a unit has 16-bit words. What then stands in the upper byte of every
/// 16 bits is multiplied by queries of zero.
template <int kBits>
__device__ inline void load_tail(uint32_t (&w)[kBits], const uint8_t* block, const TailLane& at) {
  const uint32_t* const from = reinterpret_cast<const uint32_t*>(block + at.offset);
  uint32_t x[kBits];
#pragma unroll
  for (int j = 0; j < kBits; ++j) x[j] = from[j];
  w[0] = permute(x[0], 0, at.selectors[0]);
  if constexpr (kBits > 1) w[1] = permute(x[0], x[1], at.selectors[1]);
  if constexpr (kBits > 2) w[2] = permute(x[1], x[2], at.selectors[2]);
  // 16-bit words of 4-bit codes begin at whole words.
  if constexpr (kBits > 3) w[3] = permute(x[1], x[3], at.selectors[1]);
}

/// Where a lane finds its parts of groups. Computed for every group, this would take longer than the
/// work that follows.
struct LaneOffsets {
  int words;    // bytes to its words of a slab, per bit of width
  int queries;  // bytes to its queries of a whole product, and to its TailLane
  int book;     // bytes to its copy of a book; see add_values()
};
__device__ inline LaneOffsets lane_offsets() {
  return {kept(unit_lane() * 4), kept(threadIdx.x % 32 * 16), kept(threadIdx.x % 2 * 16)};
}

/// What a lane knows of a group before the codes arrive.
struct GroupLane {
  int words;  // bytes from the start of the block to its words of the first slab
  ByteBook book;
  TailLane tail;
  __device__ GroupLane() {}
  __device__ GroupLane(const KeyGroup& group, int bits, const uint8_t* table, const LaneOffsets& lane)
      : words(group.slabs + lane.words * bits),
        book(*reinterpret_cast<const ByteBook*>(reinterpret_cast<const uint8_t*>(group.books) + lane.book)),
        tail(*reinterpret_cast<const TailLane*>(table + group.lanes + lane.queries)) {}
};

/// Adds all of a group to the sums. queries: this lane's of the group, and afterwards those of
/// the next group.
template <int kTiles, int kParts, int kBits>
__device__ inline void add_group(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, int pairs, int tail,
                                 const GroupLane& group, const uint8_t* block, const uint8_t*& queries,
                                 const LaneOffsets& lane, int part, const Zero& zero) {
  constexpr bool kAlone = kBits == 4;  // a slab has a product of its own
  constexpr int kHalf = 256 * kTiles;  // bytes of the queries of half a product
  const uint8_t* codes = block + group.words;
#pragma unroll 1
  for (int pair = 0; pair < pairs; ++pair) {
    add_slabs<kTiles, kParts, false, kBits>(high, low, codes, group.book, queries, part, zero);
    codes += (kAlone ? 1 : 2) * slab_bytes(kBits), queries += 2 * kHalf;
  }
  if (tail == kNoTail) return;
  uint32_t w[2][kBits];
  load_tail<kBits>(w[kAlone ? 0 : 1], block, group.tail);
  if (kAlone || tail == kWholeTail) {
    if constexpr (!kAlone) load_words<kBits>(w[0], codes, 0, false);
    add_pair<kTiles, kParts, false, kBits>(high, low, w, group.book, queries, part, zero);
    queries += 2 * kHalf;
  } else if constexpr (!kAlone) {
    add_half<kTiles, kParts, kBits>(high, low, w[1], group.book, queries - lane.queries / 2, part);
    queries += kHalf;
  }
}

/// Calls f with a width of up to kByteBits as an integral_constant.
template <class F>
__device__ inline void with_width(int bits, F f) {
  switch (bits) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    default:
      return f(std::integral_constant<int, 4>());
  }
}

/// The groups by width. They are read once, and held in few registers, so that products have theirs.
struct HeldGroups {
  LaneOffsets lane;
  uint32_t shapes;  // see PackedTable
  GroupLane groups[kByteBits];
  __device__ void read(const uint8_t* table) {
    const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
    lane = lane_offsets();
    shapes = t.shapes;
#pragma unroll
    for (int i = 0; i < kByteBits; ++i)
      groups[i] = GroupLane(reinterpret_cast<const KeyGroup*>(table + t.groups)[i], i + 1, table, lane);
  }
};

/// Sets integer accumulators to their start by products with zeros, which are a fourth of the instructions.
/// The operands are registers that differ. Otherwise the compiler makes one product of all.
template <int kParts>
__device__ inline void reset(Sums<1, kParts>& high, Sums<1, kParts>& low, const Zero& zero,
                             const HeldGroups& held) {
  static_assert(kParts <= kByteBits);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const TailLane& x = held.groups[i].tail;
    set_sums(high[0][i], x.offset, x.selectors[0], zero);
    set_sums(low[0][i], x.selectors[1], x.selectors[2], zero);
  }
}

/// s = keys . prepared queries, where groups go by width. high, low: as reset() leaves them.
template <int kTiles, int kParts>
__device__ void score_widths(Scores<kTiles, kParts>& s, Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low,
                             const uint8_t* block, const HeldGroups& held, int key_norms,
                             const Queries& queries, int part, int valid, const Zero& zero) {
  const uint8_t* q = queries.fixed + held.lane.queries;
  __syncwarp();  // otherwise the compiler expects lanes to diverge in every branch
  const auto add = [&](auto bits) {
    constexpr int kIndex = bits.value - 1;
    if (!(held.shapes & 255u << 8 * kIndex)) return;
    const uint32_t shape = held.shapes >> 8 * kIndex;
    add_group<kTiles, kParts, bits.value>(high, low, pairs_of(shape), tail_of(shape), held.groups[kIndex],
                                          block, q, held.lane, part, zero);
  };
  add(std::integral_constant<int, 1>());
  add(std::integral_constant<int, 2>());
  add(std::integral_constant<int, 3>());
  add(std::integral_constant<int, 4>());
  uint32_t norms[4];
  load_norms(norms, block + key_norms, threadIdx.x % 32 / 4, valid);
  take_sums<kTiles, kParts, true>(s, high, low, norms, 1, part);
}

/// s = keys . prepared queries, with groups as the table says.
template <int kTiles, int kParts>
__device__ void score_groups(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                             const PackedTable& t, const Queries& queries, int part, int valid,
                             const Zero& zero) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const KeyGroup* const groups = reinterpret_cast<const KeyGroup*>(shared + t.groups);
  const LaneOffsets offsets = lane_offsets();
  const uint8_t* q = queries.fixed + offsets.queries;
  Sums<kTiles, kParts> high, low;
  uint32_t norms[4];
  const int n_groups = t.n_groups;
  reset<kTiles, kParts>(high, low, zero);
#pragma unroll 1
  for (int i = 0; i < n_groups; ++i) {
    const KeyGroup& group = groups[i];
    const GroupLane of_lane(group, group.bits, shared, offsets);
    with_width(group.bits, [&](auto bits) {
      add_group<kTiles, kParts, bits.value>(high, low, group.pairs, group.tail, of_lane, block, q, offsets,
                                            part, zero);
    });
    if (!t.group_norms) continue;
    load_norms(norms, block + group.norms, r, valid);
    take_sums<kTiles, kParts>(s, high, low, norms, group.longest_row, part);
    reset<kTiles, kParts>(high, low, zero);
  }
  if (!t.group_norms) take_sums<kTiles, kParts>(s, high, low, nullptr, 1, part);
  for (uint32_t wide = t.wide_keys; wide; wide &= wide - 1) {
    const int slab = __ffs(int(wide)) - 1;
    const UnitEntry e = units_of(shared)[4 * slab + c];
    Operands a;
    unpack(e, block, shared, r, a);
    if (t.group_norms) {
      load_norms(norms, block + t.key_norms + 2 * kPagePositions * e.norm, r, valid);
      scale_rows(a, norms);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.wide[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i / kParts == part / kParts) mma(s[tile][i % kParts], a[i], b.x, b.y);
    }
  }
  if (t.group_norms) return;
  load_norms(norms, block + t.key_norms, r, valid);
  multiply_norms<kTiles, kParts>(s, norms, part);
}

/// s += (R_-t0 q) . R_j mean, in units of the bound times query_scale, for positions that do not keep their
/// mean. t0 is the page's first position, and j counts from it. norms: the first norms of the page's keys.
/// angles (D / 2, 2): cos and sin of t0 theta.
template <int kDim, int kTiles, int kParts>
__device__ void score_mean(Scores<kTiles, kParts>& s, const uint8_t* norms, const float4* angles,
                           const Queries& queries, const uint4* mean, float query_scale, int part) {
  const int lane = threadIdx.x % 32, c = lane % 4;
  const float unit = 1 / query_scale;
  Scores<kTiles, kParts> of_mean = {};
#pragma unroll 2
  for (int slab = 0; slab < kDim / 16; ++slab) {
    const float4 turn = angles[4 * slab + c];
    uint32_t b[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 q = queries.plain[(slab * kTiles + tile) * 32 + lane];
      const float2 x = unpack2(q.x), y = unpack2(q.y);
      const float inverse = queries.bounds[2 * (8 * tile + lane / 4) + 1] * unit;
      b[tile][0] = pack2((x.x * turn.x + x.y * turn.y) * inverse, (x.y * turn.x - x.x * turn.y) * inverse);
      b[tile][1] = pack2((y.x * turn.z + y.y * turn.w) * inverse, (y.y * turn.z - y.x * turn.w) * inverse);
    }
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint4 m = mean[((part + i) * (kDim / 16) + slab) * 32 + lane];
      const uint32_t a[4] = {m.x, m.y, m.z, m.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(of_mean[tile][i], a, b[tile][0], b[tile][1]);
    }
  }
  uint32_t pair[4];
  load_norms(pair, norms, lane / 4, kPagePositions);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const uint32_t x = pick<4>(pair, part + i);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (!keeps_mean(x, j / 2)) s[tile][i][j] += of_mean[tile][i][j];
  }
}

/// Masks the positions from `valid` on.
template <int kTiles, int kParts>
__device__ inline void mask(Scores<kTiles, kParts>& s, int part, int valid) {
  const int r = threadIdx.x % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (16 * (part + i) + 8 * (j / 2) + r >= valid) s[tile][i][j] = -INFINITY;
}

}  // namespace blockgtq::cuda
