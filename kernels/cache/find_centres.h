#pragma once
#include "kernels/cache/packed_encode.h"

namespace blockgtq::cuda {

/// The first step of encode_tokens() where values have centres: writes the number of every new value's centre
/// into its page, and the sign of its norm, whose other bits are zero. One launch, which may begin while the
/// preceding kernel ends.
void find_centres(const EncodeTokens& job, const Stream& stream);

}  // namespace blockgtq::cuda
