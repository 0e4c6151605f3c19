#include "cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "options.h"
#include "quant/block_gtq.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

/// The bits of "K2..." for letter K, and text goes on behind them; 0 where it begins otherwise, -1 for bits
/// that cannot be.
double take_bits(char letter, const char*& text) {
  if (*text != letter) return 0;
  if (text[1] < '0' || text[1] > '9') return -1;
  char* end = nullptr;
  const double bits = std::strtod(text + 1, &end);
  if (!(bits >= 1 && bits <= kMaxBits)) return -1;
  text = end;
  return bits;
}

std::vector<HeadQuantizers> make_layers(const AttentionShape& shape, const auto& make) {
  std::vector<HeadQuantizers> layers(size_t(shape.n_layers));
  for (int l = 0; l < shape.n_layers; ++l)
    for (int h = 0; h < shape.n_kv_heads; ++h) layers[size_t(l)].push_back(make(l, h));
  return layers;
}

}  // namespace

std::vector<BitPair> parse_pairs(const std::string& text) {
  std::vector<BitPair> pairs;
  for (const std::string& part : split(text, ',')) {
    const char* at = part.c_str();
    BitPair pair;
    pair.k = take_bits('K', at);
    pair.v = take_bits('V', at);
    if (*at || pair.k < 0 || pair.v < 0 || (pair.k == 0 && pair.v == 0))
      throw Error(Exit::usage,
                  fmt::format("--pairs: '{}' is not K2V3, K2 or V2.5 with bits of 1 to {}", part, kMaxBits));
    if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
  }
  return pairs;
}

std::string pair_text(const BitPair& pair) {
  if (pair == BitPair{}) return "exact";
  return (pair.k ? "K" + bits_text(pair.k) : "") + (pair.v ? "V" + bits_text(pair.v) : "");
}

std::string describe(const CacheSpec& spec) {
  auto method = [](const std::string& name) { return name.empty() ? "exact" : name; };
  return fmt::format("{} {} / {}", pair_text(spec.bits), method(spec.k_method), method(spec.v_method));
}

std::vector<double> budgets_of(const std::vector<CacheSpec>& specs) {
  std::vector<double> budgets;
  for (const CacheSpec& spec : specs)
    for (double bits : {spec.bits.k, spec.bits.v})
      if (bits) budgets.push_back(bits);
  std::sort(budgets.begin(), budgets.end());
  budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
  return budgets;
}

std::vector<std::string> parse_key_methods(const std::string& text) {
  return text.empty() ? std::vector<std::string>() : parse_methods(text);
}

std::vector<std::string> parse_value_methods(const std::string& text) {
  return text.empty() ? std::vector<std::string>() : parse_methods(text);
}

std::vector<CacheSpec> cache_specs(const std::vector<std::string>& k_methods,
                                   const std::vector<std::string>& v_methods,
                                   const std::vector<BitPair>& pairs) {
  std::vector<CacheSpec> specs;
  for (const BitPair& pair : pairs) {
    const std::vector<std::string> exact = {""};
    for (const std::string& k : pair.k ? k_methods : exact)
      for (const std::string& v : pair.v ? v_methods : exact) specs.push_back({k, v, pair});
  }
  return specs;
}

QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map) {
  QuantizedCache cache;
  if (spec.bits.k)
    cache.keys = make_layers(shape, [&](int l, int h) {
      const Budget* budget = map ? map->find(spec.bits.k) : nullptr;
      return make_quantizer(spec.k_method, shape.layout, spec.bits.k,
                            budget ? map->head_bits(*budget, l, h) : std::span<const uint8_t>(),
                            map ? map->seed : 42);
    });
  if (spec.bits.v)
    cache.values = make_layers(shape, [&](int, int) {
      return std::unique_ptr<Quantizer>(
          std::make_unique<UniformTqMse>(shape.v_dim, int(spec.bits.v), map ? map->seed : 42));
    });
  return cache;
}

}  // namespace blockgtq
