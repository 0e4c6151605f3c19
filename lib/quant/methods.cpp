#include "quant/methods.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/block_gtq.h"

namespace blockgtq {

const std::vector<std::string>& method_names() {
  static const std::vector<std::string> names = {"tq-mse", "block-gtq"};
  return names;
}

bool is_method(const std::string& name) {
  return std::find(method_names().begin(), method_names().end(), name) != method_names().end();
}

bool needs_map(const std::string& method) {
  return method != "tq-mse";
}

std::unique_ptr<Quantizer> make_quantizer(const std::string& method, const BlockLayout& layout,
                                          double average_bits, std::span<const uint8_t> block_bits,
                                          uint64_t seed) {
  if (method == "tq-mse") {
    check(average_bits == std::floor(average_bits), "tq-mse takes whole bits");
    return std::make_unique<UniformTqMse>(layout.head_dim, int(average_bits), seed);
  }
  check(method == "block-gtq", "make_quantizer: unknown method");
  return std::make_unique<BlockGtq>(layout, block_bits, seed);
}

}  // namespace blockgtq
