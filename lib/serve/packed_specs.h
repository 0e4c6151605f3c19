#pragma once
#include <string>
#include <vector>

#include "cache/packed_cache.h"
#include "eval/quantized_cache.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// The page form of what these quantizers code, layer by layer: the same codes, with keys after RoPE. Pages
/// have no fallback: a key or value that is nearer to zero than to the mean keeps its mean, see paged().
/// `what` names the cache in messages.
/// Exit::input for what pages cannot hold: an exact side, methods that are not made of groups with norms,
/// keys coded before RoPE, centres of keys, more than one norm of a value, and trellis codes that
/// without_trellis_pages() names.
std::vector<PackedSpec> packed_specs(const QuantizedCache& cache, const AttentionShape& shape,
                                     const std::string& what);

/// The same cache with the codes that pages hold, to be measured by encoding and decoding in place. A side
/// may be exact. Exit::input as above.
QuantizedCache as_in_pages(const QuantizedCache& cache, const std::string& what);

}  // namespace blockgtq
