#pragma once
#include <cstdint>

#include "kernels/cache/packed_encode.h"
#include "kernels/cache/trellis_table.h"

namespace blockgtq::cuda {

/// Keys or values, in device memory.
struct TrellisEncodeSide {
  const float* forward = nullptr;    // (H, D, D): F transposed
  const float* centroids = nullptr;  // (H, kTrellisStates) as pages' readers know them
};

/// The encoder's side of a layer of trellis codes.
struct TrellisEncoder {
  TrellisEncodeSide key, value;
  const float* value_mean = nullptr;  // (H, D) or null
  // centred keys: null, or
  const float* key_mean = nullptr;              // (H, 64, D): R_j mean
  const MeanCoordinate* coordinates = nullptr;  // (D)
};

/// encode_tokens() into pages of trellis codes, in one launch, which may begin while the one before it ends.
/// job.layer and job.encoder are not read. Other positions of the pages touched stay as they are.
void encode_trellis(const TrellisLayer& layer, const TrellisEncoder& encoder, const EncodeTokens& job,
                    const Stream& stream);

}  // namespace blockgtq::cuda
