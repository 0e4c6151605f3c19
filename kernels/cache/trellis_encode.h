#pragma once
#include <cstdint>

#include "kernels/cache/packed_encode.h"
#include "kernels/cache/trellis_table.h"

namespace blockgtq::cuda {

/// The encoder's arrays for keys or for values, in device memory.
struct TrellisEncodeSide {
  const float* forward = nullptr;    // (H, D, D): F transposed
  const float* centroids = nullptr;  // (H, kTrellisStates), as the readers of pages know them
};

/// The encoder's tables of a layer of trellis codes.
struct TrellisEncoder {
  TrellisEncodeSide key, value;
  const float* value_mean = nullptr;  // (H, D) or null
  // For centred keys, otherwise null:
  const float* key_mean = nullptr;              // (H, 64, D): R_j mean
  const MeanCoordinate* coordinates = nullptr;  // (D)
};

/// encode_tokens() into pages of trellis codes, in one launch, which may begin while the preceding kernel
/// ends. job.layer and job.encoder are not read. Other positions of the pages touched stay as they are.
void encode_trellis(const TrellisLayer& layer, const TrellisEncoder& encoder, const EncodeTokens& job,
                    const Stream& stream);

}  // namespace blockgtq::cuda
