#include "serve/cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "base/decimal.h"
#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {
namespace {

constexpr uint64_t kSeed = 42;  // of rotations, where no map says

/// The bits of "K2..." for letter K, and text goes on behind them; 0 where it begins otherwise, -1 for bits
/// that cannot be.
double take_bits(char letter, const char*& text) {
  if (*text != letter) return 0;
  if (text[1] < '0' || text[1] > '9') return -1;
  const std::string_view number(text + 1, std::strspn(text + 1, "0123456789."));
  const double bits = parse_decimal(number).value_or(0);
  if (!(bits >= 1 && bits <= kMaxBits)) return -1;
  text = number.data() + number.size();
  return bits;
}

std::vector<Method> with_chosen(std::vector<Method> methods) {
  methods.push_back({kChosen, true, false, true, "what calibrate --choose wrote into the map"});
  return methods;
}

}  // namespace

const std::vector<Method>& key_method_names() {
  static const std::vector<Method> names = with_chosen(key_methods());
  return names;
}
const std::vector<Method>& value_method_names() {
  static const std::vector<Method> names = with_chosen(value_methods());
  return names;
}

BitPair parse_pair(const std::string& text, const char* what) {
  const char* at = text.c_str();
  BitPair pair;
  pair.k = take_bits('K', at);
  pair.v = take_bits('V', at);
  if (*at || pair.k < 0 || pair.v < 0 || (pair.k == 0 && pair.v == 0))
    throw Error(Exit::usage,
                fmt::format("{}: '{}' is not K2V3, K2 or V2.5 with bits of 1 to {}", what, text, kMaxBits));
  return pair;
}

std::string pair_text(const BitPair& pair) {
  if (pair == BitPair{}) return "exact";
  return (pair.k ? "K" + bits_text(pair.k) : "") + (pair.v ? "V" + bits_text(pair.v) : "");
}

std::string exact_text(const ExactWindow& exact) {
  std::vector<std::string> parts;
  if (exact.sink > 0) parts.push_back(fmt::format("sink {}", exact.sink));
  if (exact.recent > 0) parts.push_back(fmt::format("recent {}", exact.recent));
  return fmt::format("{}", fmt::join(parts, ", "));
}

CodePair code_of(const BitPair& bits, Code code) {
  return {bits.k ? code : Code::scalar, bits.v ? code : Code::scalar};
}

std::string code_text(const CacheSpec& spec) {
  const Code k = spec.bits.k ? spec.code.k : spec.code.v, v = spec.bits.v ? spec.code.v : k;
  return k == v ? name(k) : fmt::format("{} / {}", name(k), name(v));
}

namespace {

/// What stands behind bits and methods.
std::string tail_text(const CacheSpec& spec) {
  if (spec.bits == BitPair{}) return "";
  const std::string code = code_text(spec), exact = exact_text(spec.exact);
  return (code == name(Code::scalar) ? "" : ", " + code) + (exact.empty() ? "" : ", " + exact);
}

}  // namespace

std::string describe(const CacheSpec& spec) {
  auto method = [](const std::string& name) { return name.empty() ? "exact" : name; };
  return fmt::format("{} {} / {}{}", pair_text(spec.bits), method(spec.k_method), method(spec.v_method),
                     tail_text(spec));
}

std::string width_text(const CacheSpec& spec) {
  return pair_text(spec.bits) + tail_text(spec);
}

bool has_codes(const CacheSpec& spec) {
  const bool k = spec.bits.k && spec.code.k == Code::trellis, v = spec.bits.v && spec.code.v == Code::trellis;
  return (!k || find_method(key_method_names(), spec.k_method)->trellis) &&
         (!v || find_method(value_method_names(), spec.v_method)->trellis);
}

void require_bits(const CacheSpec& spec) {
  const auto require = [](const std::vector<Method>& methods, const std::string& name, double bits) {
    if (name.empty() || bits == std::floor(bits) || !find_method(methods, name)->whole_bits) return;
    throw Error(Exit::usage, fmt::format("{} takes whole bits: {:g}", name, bits));
  };
  require(key_method_names(), spec.k_method, spec.bits.k);
  require(value_method_names(), spec.v_method, spec.bits.v);
}

void name_page_methods(std::string& key, std::string& value, bool trellis) {
  const bool best = trellis && key.empty() && value.empty();
  if (key.empty()) key = best ? "tq-mse-cb" : "block-gtq";
  if (value.empty()) value = best ? "tq-mse-centred" : "tq-mse";
}

namespace {

void require_map(const std::vector<Method>& methods, const std::string& name, const BitMap* map) {
  if (!map && find_method(methods, name)->needs_map)
    throw Error(Exit::usage, fmt::format("{} needs --map MAP or --calibration TEXT", name));
}

std::vector<HeadQuantizers> make_layers(const AttentionShape& shape, const BitMap* map, double bits,
                                        const auto& make) {
  static const std::vector<HeadCalibration> none;
  const Budget plain{bits};
  const Budget* budget = map ? map->find(bits) : &plain;
  if (!budget) fail_input("the map has no budget of {:g} bits", bits);
  const auto n_heads = size_t(shape.n_kv_heads);
  std::vector<HeadQuantizers> layers(size_t(shape.n_layers));
  for (HeadQuantizers& heads : layers) heads.resize(n_heads);
  parallel_for(layers.size() * n_heads, [&](size_t i) {
    const size_t l = i / n_heads, h = i % n_heads;
    layers[l][h] =
        make(map ? map->head(*budget, int(l), int(h)) : head_map(shape, plain, none, kSeed, int(l), int(h)));
  });
  return layers;
}

const MethodChoice& map_choice(const BitMap* map, Side side, double bits) {
  if (!map) throw Error(Exit::usage, fmt::format("{} needs --map MAP of calibrate --choose", kChosen));
  if (const MethodChoice* choice = map->choice(side, bits)) return *choice;
  throw Error(Exit::input,
              fmt::format("the map holds no choice of a method for {} at {:g} bits", name(side), bits),
              "calibrate --choose makes one for every budget of --bits");
}

}  // namespace

std::vector<CacheSpec> resolve_chosen(const std::vector<CacheSpec>& specs, const BitMap* map,
                                      Progress& progress) {
  std::vector<CacheSpec> resolved;
  for (CacheSpec spec : specs) {
    auto resolve = [&](Side side, double bits, std::string& method, Code& code) {
      if (method != kChosen) return;
      const MethodChoice& choice = map_choice(map, side, bits);
      method = choice.chosen().method;
      code = choice.chosen().code;
      const auto held = [](const ExactWindow& exact) {
        return exact == ExactWindow{} ? "no exact position" : exact_text(exact);
      };
      if (choice.exact != spec.exact)
        progress.warn(fmt::format("the map's choice was measured with {}, this cache has {}",
                                  held(choice.exact), held(spec.exact)));
    };
    resolve(Side::keys, spec.bits.k, spec.k_method, spec.code.k);
    resolve(Side::values, spec.bits.v, spec.v_method, spec.code.v);
    if (std::find(resolved.begin(), resolved.end(), spec) == resolved.end()) resolved.push_back(spec);
  }
  return resolved;
}

QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map,
                          Codebook codebook) {
  QuantizedCache cache;
  cache.exact = spec.exact;
  if (spec.bits.k)
    cache.keys = make_layers(shape, map, spec.bits.k, [&](const HeadMap& head) {
      require_map(key_methods(), spec.k_method, map);
      return make_key_quantizer(spec.k_method, head, codebook, spec.code.k);
    });
  if (spec.bits.v)
    cache.values = make_layers(shape, map, spec.bits.v, [&](const HeadMap& head) {
      require_map(value_methods(), spec.v_method, map);
      return make_value_quantizer(spec.v_method, head, codebook, spec.code.v);
    });
  return cache;
}

}  // namespace blockgtq
