#include "cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "options.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

constexpr uint64_t kSeed = 42;  // of rotations, where no map says

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

void require_bits(const std::vector<Method>& methods, const std::string& name, double bits) {
  if (name.empty() || bits == std::floor(bits) || !find_method(methods, name)->whole_bits) return;
  throw Error(Exit::usage, fmt::format("{} takes whole bits: {:g}", name, bits));
}

void require_map(const std::vector<Method>& methods, const std::string& name, const BitMap* map) {
  if (!map && find_method(methods, name)->needs_map)
    throw Error(Exit::usage, fmt::format("{} needs --map MAP or --calibration TEXT", name));
}

std::vector<HeadQuantizers> make_layers(const AttentionShape& shape, const BitMap* map, double bits,
                                        const auto& make) {
  static const std::vector<HeadCalibration> none;
  const Budget plain{bits, {}, {}, {}};
  const Budget* budget = map ? map->find(bits) : &plain;
  if (!budget) fail_input("the map has no budget of {:g} bits", bits);
  std::vector<HeadQuantizers> layers(size_t(shape.n_layers));
  for (int l = 0; l < shape.n_layers; ++l)
    for (int h = 0; h < shape.n_kv_heads; ++h)
      layers[size_t(l)].push_back(
          make(map ? map->head(*budget, l, h) : head_map(shape, plain, none, kSeed, l, h)));
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

std::vector<CacheSpec> cache_specs(const std::vector<std::string>& k_methods,
                                   const std::vector<std::string>& v_methods,
                                   const std::vector<BitPair>& pairs) {
  std::vector<CacheSpec> specs;
  const std::vector<std::string> exact = {""};
  for (const BitPair& pair : pairs)
    for (const std::string& k : pair.k ? k_methods : exact)
      for (const std::string& v : pair.v ? v_methods : exact) {
        require_bits(key_methods(), k, pair.k);
        require_bits(value_methods(), v, pair.v);
        specs.push_back({k, v, pair});
      }
  return specs;
}

QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map) {
  QuantizedCache cache;
  if (spec.bits.k)
    cache.keys = make_layers(shape, map, spec.bits.k, [&](const HeadMap& head) {
      require_map(key_methods(), spec.k_method, map);
      return make_key_quantizer(spec.k_method, head);
    });
  if (spec.bits.v)
    cache.values = make_layers(shape, map, spec.bits.v, [&](const HeadMap& head) {
      require_map(value_methods(), spec.v_method, map);
      return make_value_quantizer(spec.v_method, head);
    });
  return cache;
}

}  // namespace blockgtq
