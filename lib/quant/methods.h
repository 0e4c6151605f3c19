#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quant/bit_map.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// The key quantizers by name: "tq-mse" (uniform) and "block-gtq" (the paper).
const std::vector<std::string>& method_names();
bool is_method(const std::string& name);
/// Whether the method needs a bit map (tq-mse does not).
bool needs_map(const std::string& method);

/// The quantizer of one layer and KV head: block-gtq reads block_bits (n_blocks), tq-mse the average_bits,
/// which must be a whole number.
std::unique_ptr<Quantizer> make_quantizer(const std::string& method, const BlockLayout& layout,
                                          double average_bits, std::span<const uint8_t> block_bits,
                                          uint64_t seed);

}  // namespace blockgtq
