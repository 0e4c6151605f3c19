#include "cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "decimal.h"
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

/// What --k-method and --v-method name.
const std::vector<Method>& key_names() {
  static const std::vector<Method> names = with_chosen(key_methods());
  return names;
}
const std::vector<Method>& value_names() {
  static const std::vector<Method> names = with_chosen(value_methods());
  return names;
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

}  // namespace

std::vector<BitPair> parse_pairs(const std::string& text, const char* option) {
  std::vector<BitPair> pairs;
  for (const std::string& part : split(text, ',')) {
    const char* at = part.c_str();
    BitPair pair;
    pair.k = take_bits('K', at);
    pair.v = take_bits('V', at);
    if (*at || pair.k < 0 || pair.v < 0 || (pair.k == 0 && pair.v == 0))
      throw Error(Exit::usage, fmt::format("{}: '{}' is not K2V3, K2 or V2.5 with bits of 1 to {}", option,
                                           part, kMaxBits));
    if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
  }
  return pairs;
}

std::string pair_text(const BitPair& pair) {
  if (pair == BitPair{}) return "exact";
  return (pair.k ? "K" + bits_text(pair.k) : "") + (pair.v ? "V" + bits_text(pair.v) : "");
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
  return (!k || find_method(key_names(), spec.k_method)->trellis) &&
         (!v || find_method(value_names(), spec.v_method)->trellis);
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

void add_cache_options(CLI::App& command, CacheOptions& o) {
  command.add_option("--k-method", o.k_methods,
                     "Key methods, comma-separated: " + method_list(key_names()) +
                         " (what the map of calibrate --choose says)");
  command.add_option("--v-method", o.v_methods,
                     "Value methods, every one with every key method: " + method_list(value_names()));
  command.add_option(
      "--pairs", o.pairs,
      "Bits of keys and values: K2V2,K3V3,K2,V3 (what is not named is exact); default: K2V2,K3V3");
  command.add_option("--bits-k", o.bits_k,
                     "In place of --pairs: bits of keys, each with every one of --bits-v");
  command.add_option("--bits-v", o.bits_v, "In place of --pairs: bits of values");
  command
      .add_option(
          "--code", o.codes,
          "scalar: every coordinate has its own bits; trellis: neighbours share them, two thirds of the "
          "error at the same bytes; or scalar,trellis")
      ->check([](const std::string& text) -> std::string {
        for (const std::string& code : split(text, ','))
          if (code != "scalar" && code != "trellis") return "'" + code + "' is none of scalar, trellis";
        return "";
      })
      ->capture_default_str();
  add_exact_options(command, o.exact);
  add_codebook_option(command, o.codebook);
}

void require_kernels(const CacheOptions& o, RunOptions& run) {
  if (o.exact.recent > 0) run.without_kernel = "recent positions";
}

Codebook codebook_of(const CacheOptions& o, const RunOptions& run) {
  return parse_codebook(o.codebook.empty() && run.reference() ? "reference" : o.codebook);
}

std::vector<Code> codes_of(const CacheOptions& o) {
  std::vector<Code> codes;
  for (const std::string& code : split(o.codes, ',')) codes.push_back(parse_code(code));
  return codes;
}

namespace {

std::vector<BitPair> bit_pairs(const CacheOptions& o) {
  const bool by_list = !(o.bits_k.empty() && o.bits_v.empty());
  if (!o.pairs.empty() && by_list)
    throw Error(Exit::usage, "--pairs and --bits-k, --bits-v exclude each other");
  if (!o.pairs.empty()) return parse_pairs(o.pairs);
  std::vector<BitPair> pairs;
  if (!by_list) {
    for (double bits : {2.0, 3.0})
      pairs.push_back({o.k_methods.empty() ? 0 : bits, o.v_methods.empty() ? 0 : bits});
    return pairs;
  }
  const std::vector<double> exact = {0};
  for (double k : o.bits_k.empty() ? exact : parse_bits(o.bits_k, "--bits-k"))
    for (double v : o.bits_v.empty() ? exact : parse_bits(o.bits_v, "--bits-v")) pairs.push_back({k, v});
  return pairs;
}

}  // namespace

std::vector<CacheSpec> cache_specs(const CacheOptions& o) {
  if (o.k_methods.empty() && o.v_methods.empty())
    throw Error(Exit::usage, "nothing to quantize: give --k-method or --v-method");
  const std::vector<std::string> exact = {""};
  std::vector<std::string> k_methods, v_methods;
  if (!o.k_methods.empty()) k_methods = parse_methods(o.k_methods, key_names(), "--k-method");
  if (!o.v_methods.empty()) v_methods = parse_methods(o.v_methods, value_names(), "--v-method");
  const std::vector<Code> codes = codes_of(o);
  std::vector<CacheSpec> specs;
  for (const BitPair& pair : bit_pairs(o)) {
    if (pair.k && k_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes keys: give --k-method", pair_text(pair)));
    if (pair.v && v_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes values: give --v-method", pair_text(pair)));
    for (const std::string& k : pair.k ? k_methods : exact)
      for (const std::string& v : pair.v ? v_methods : exact) {
        require_bits(key_names(), k, pair.k);
        require_bits(value_names(), v, pair.v);
        for (const Code code : codes) {
          const CacheSpec spec{k, v, pair, o.exact, code_of(pair, code)};
          if (has_codes(spec))
            specs.push_back(spec);
          else if (codes.size() == 1)
            throw Error(Exit::usage, fmt::format("--code: {} has no trellis codes", describe(spec)));
        }
      }
  }
  return specs;
}

std::vector<CacheSpec> specs_of_model(const std::vector<CacheSpec>& specs, const AttentionShape& shape,
                                      const std::string& model, bool in_panel, Progress& progress) {
  if (shape.v_dim > 0) return specs;
  std::vector<CacheSpec> keys;
  for (const CacheSpec& spec : specs)
    if (!spec.bits.v) keys.push_back(spec);
  if (keys.size() == specs.size()) return keys;
  const std::string why = model + ": caches a latent, not values per head";
  if (!in_panel || keys.empty()) throw Error(Exit::input, why, "quantize its keys only: --pairs K2,K3");
  progress.warn(why + ": keys only");
  return keys;
}

namespace {

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
