// Quantized caches for the tests of sequences.
#pragma once
#include "catch.h"
#include "eval/quantized_cache.h"
#include "model/captured.h"
#include "model/model_shape.h"
#include "quant/bit_map.h"
#include "quant/methods.h"
#include "serve/packed_specs.h"

namespace blockgtq::test {

/// Quantizers without calibration: energies that fall from block to block decide the widths. keys: a method,
/// or "trellis": tq-mse, keys and values in trellis codes.
inline QuantizedCache plain_cache(const AttentionShape& shape, double bits, const std::string& keys) {
  QuantizedCache cache;
  const Code code = keys == "trellis" ? Code::trellis : Code::scalar;
  const std::string method = code == Code::trellis ? "tq-mse" : keys;
  const int n_blocks = shape.layout.n_blocks();
  std::vector<uint8_t> widths;
  for (int b = 0; b < n_blocks; ++b)  // half of the blocks a bit more, half a bit less
    widths.push_back(uint8_t(int(bits) + (method == "tq-mse" ? 0 : b % 2 == 0 ? 1 : -1)));
  for (int l = 0; l < shape.n_layers; ++l) {
    HeadQuantizers k, v;
    for (int h = 0; h < shape.n_kv_heads; ++h) {
      Budget budget;
      budget.average_bits = bits;
      static const std::vector<HeadCalibration> none;
      for (int i = 0; i < shape.n_layers * shape.n_kv_heads; ++i)
        budget.bits.insert(budget.bits.end(), widths.begin(), widths.end());
      const HeadMap head = head_map(shape, budget, none, 42, l, h);
      k.push_back(make_key_quantizer(method, head, Codebook::by_method, code));
      v.push_back(make_value_quantizer("tq-mse", head, Codebook::by_method, code));
    }
    cache.keys.push_back(std::move(k));
    cache.values.push_back(std::move(v));
  }
  return cache;
}

}  // namespace blockgtq::test
