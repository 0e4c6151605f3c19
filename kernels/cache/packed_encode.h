#pragma once
#include <cstdint>

#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_table.h"
#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// What the encoder needs of one KV head beside PackedTable:
///
///   [EncodeSide of keys][EncodeSide of values][thresholds]
///
/// Thresholds lie between neighbouring magnitudes of a book.
struct EncodeGroup {
  int32_t thresholds = 0;  // bytes from the start of the encoder's table: 2^(bits - 1) - 1 floats
  float largest = 1;       // the largest centroid
};
inline constexpr int kMaxEncodeGroups = 9;
/// Neighbouring slabs of one group, all of whose units are full.
struct SlabSpan {
  int16_t first = 0, count = 0;
};
struct alignas(16) EncodeSide {
  int32_t n_norms = 1;   // per position
  int32_t diagonal = 1;  // F^T F is diagonal: |z|^2 is a weighted sum of x_d^2
  int32_t weighed = 0;   // the weights are not all one
  int32_t n_runs = 0;
  uint32_t mixed = 0;  // slabs that are in no run, one bit each
  SlabSpan runs[kMaxEncodeGroups];
  EncodeGroup groups[kMaxEncodeGroups];
  // By norm: the largest weight, of which the stored weights are parts.
  float weight_scale[kMaxEncodeGroups] = {};
};

/// The encoder's tables of a layer.
struct EncodeLayer {
  int n_norms = 1;    // the largest number of any head, keys or values
  bool wide = false;  // whether there are codes of more than 4 bits
  int table_bytes = 0;
  const uint8_t* tables = nullptr;  // (H, table_bytes)
  // F in fp16, in fragment order with 16 bytes per lane: (H, slabs, steps, 32) with D / 16 steps, rounded up
  // to an even number. The depth is in the order of load_rows().
  const void* key_forward = nullptr;    // B operand: places 0..7, then 8..15 of the slab
  const void* value_forward = nullptr;  // A operand: rows are places
  // (H, norms, 16 steps) fp16: the diagonals of F^T F, as parts of the largest
  const void *key_weights = nullptr, *value_weights = nullptr;
  const float* value_mean = nullptr;  // (H, D) or null
  // For centred keys, otherwise null:
  const float* key_mean = nullptr;              // (H, 64, D): R_j mean in raw coordinates
  const MeanCoordinate* coordinates = nullptr;  // (D)
};

/// New keys and values of a layer, on their way into the cache: T tokens of each of B sequences, at positions
/// starts[b] and on.
struct EncodeTokens {
  const PackedLayer* layer = nullptr;
  const EncodeLayer* encoder = nullptr;
  PageTable cache;                  // lengths are not read; pages are written
  uint8_t* pages = nullptr;         // the same pages
  const int32_t* starts = nullptr;  // (B)
  int batch = 0;
  int64_t tokens = 0;               // T
  const void* k = nullptr;          // (B, T, H, D) after RoPE, 16-byte aligned; null: leave keys alone
  const void* v = nullptr;          // (B, T, H, D); null: leave values alone
  FloatType type = FloatType::f16;  // f16 or bf16
};

/// Encodes keys and values of all heads in one launch. Other positions of the pages touched stay as they are.
void encode_tokens(const EncodeTokens& job, const Stream& stream);

}  // namespace blockgtq::cuda
