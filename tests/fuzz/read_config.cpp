// config.json in all its dialects: what is taken keeps the limits, and its frequencies are finite.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/config.h"
#include "reader.h"

namespace blockgtq {

void fuzz_config(std::string_view input) {
  const Config c = parse_config(parse_json(input, "config.json"), "config.json");
  check(c.n_layers >= 1 && c.n_layers <= kMaxLayers, "layers out of range");
  check(c.n_heads >= 1 && c.n_heads <= kMaxHeads && c.n_kv_heads >= 1 && c.n_kv_heads <= c.n_heads,
        "heads out of range");
  check(c.head_dim >= 2 && c.head_dim % 2 == 0 && c.head_dim <= kMaxHeadDim, "head dimension out of range");
  check(c.rope.rotary_dim >= 2 && c.rope.rotary_dim % 2 == 0 && c.rope.rotary_dim <= c.head_dim,
        "rotary dimension out of range");
  check(c.layer_is_moe.size() == size_t(c.n_layers) && c.layer_attention.size() == size_t(c.n_layers),
        "a layer without a kind");
  const RopeFrequencies f = rope_frequencies(c.rope, c.max_position, 2048);
  check(f.inv_freq.size() * 2 == size_t(c.rope.rotary_dim), "as many frequencies as blocks");
  for (const double x : f.inv_freq) check(std::isfinite(x) && x >= 0, "a frequency that is none");
  static_cast<void>(c.peculiarities());
}

}  // namespace blockgtq
