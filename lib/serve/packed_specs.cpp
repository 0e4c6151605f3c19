#include "serve/packed_specs.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "cache/trellis_cache.h"
#include "quant/linear_quantizer.h"

namespace blockgtq {
namespace {

constexpr const char* kWithPages =
    "block-gtq, tq-mse, tq-mse-cb and values of tq-mse-centred and tq-mse-centres have pages; in trellis "
    "codes those of one group per "
    "head (tq-mse and its forms), 2 to 4 bits, head dimensions 64 and 128";

/// Why pages cannot hold this code; empty where they can.
std::string without_place(const std::optional<LinearCode>& code, bool keys) {
  if (!code) return "codes that are not groups with a norm";
  if (code->before_rope) return "keys coded before RoPE";
  if (keys && !code->centres.empty()) return "centres of keys";
  if (!keys && !code->one_norm && code->groups.size() > 1) return "values with several norms";
  return "";
}

std::vector<LinearCode> codes_of(const HeadQuantizers& heads, bool keys, const std::string& what) {
  std::vector<LinearCode> codes;
  for (const auto& quantizer : heads) {
    const std::optional<LinearCode> code = quantizer->linear_code();
    if (const std::string why = without_place(code, keys); !why.empty())
      throw Error(Exit::input, fmt::format("{}: pages have no place for {}", what, why), kWithPages);
    codes.push_back(paged(*code));
  }
  return codes;
}

}  // namespace

std::vector<PackedSpec> packed_specs(const QuantizedCache& cache, const AttentionShape& shape,
                                     const std::string& what) {
  if (cache.keys.empty() || cache.values.empty())
    throw Error(Exit::input, fmt::format("{}: pages hold keys and values quantized, both of them", what));
  std::vector<PackedSpec> specs;
  for (int l = 0; l < shape.n_layers; ++l) {
    PackedSpec spec;
    spec.layout = shape.metric_layout();
    spec.inv_freq = shape.rope(l).inv_freq;
    spec.n_heads = shape.n_heads;
    spec.key = codes_of(cache.keys[size_t(l)], true, what);
    spec.value = codes_of(cache.values[size_t(l)], false, what);
    if (const std::string why = has_trellis(spec) ? without_trellis_pages(spec) : ""; !why.empty())
      throw Error(Exit::input, fmt::format("{}: pages have no place for these trellis codes: {}", what, why),
                  kWithPages);
    specs.push_back(std::move(spec));
  }
  return specs;
}

QuantizedCache as_in_pages(const QuantizedCache& cache, const std::string& what) {
  const auto side = [&](const std::vector<HeadQuantizers>& layers, bool keys) {
    std::vector<HeadQuantizers> out;
    for (const HeadQuantizers& heads : layers) {
      HeadQuantizers& held = out.emplace_back();
      for (LinearCode& code : codes_of(heads, keys, what))
        held.push_back(std::make_unique<LinearQuantizer>(std::move(code)));
    }
    return out;
  };
  return {side(cache.keys, true), side(cache.values, false), cache.exact};
}

}  // namespace blockgtq
