#pragma once
#include <string>
#include <vector>

#include "cache/packed_cache.h"
#include "eval/quantized_cache.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// How pages hold what these quantizers code, layer by layer: the same codes, keys after RoPE. In place of
/// the fallback of methods that have one, a key or value that is nearer to zero than to the mean keeps its
/// mean, see paged(). Exit::input for what pages have no place for: a side that is exact, methods not made of
/// groups with norms, keys coded before RoPE, centres, more than one norm of a value, trellis codes without
/// pages (without_trellis_pages()). `what` names the cache in messages.
std::vector<PackedSpec> packed_specs(const QuantizedCache& cache, const AttentionShape& shape,
                                     const std::string& what);

/// The same cache with what pages hold of its codes, to be measured by encoding and decoding in place; a side
/// may be exact. Exit::input as above.
QuantizedCache as_in_pages(const QuantizedCache& cache, const std::string& what);

}  // namespace blockgtq
