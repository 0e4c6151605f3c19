#include "cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
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

void require_bits(const std::vector<Method>& methods, const std::string& name, double bits) {
  if (name.empty() || bits == std::floor(bits) || !find_method(methods, name)->whole_bits) return;
  throw Error(Exit::usage, fmt::format("{} takes whole bits: {:g}", name, bits));
}

void require_map(const std::vector<Method>& methods, const std::string& name, const BitMap* map) {
  if (!map && find_method(methods, name)->needs_map)
    throw Error(Exit::usage, fmt::format("{} needs --map MAP or --calibration TEXT", name));
}

bool has_trellis(const CacheSpec& spec) {
  return (spec.k_method.empty() || find_method(key_methods(), spec.k_method)->trellis) &&
         (spec.v_method.empty() || find_method(value_methods(), spec.v_method)->trellis);
}

std::vector<HeadQuantizers> make_layers(const AttentionShape& shape, const BitMap* map, double bits,
                                        const auto& make) {
  static const std::vector<HeadCalibration> none;
  const Budget plain{bits};
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

namespace {

/// What holds for both sides.
std::string tail_text(const CacheSpec& spec) {
  if (spec.bits == BitPair{}) return "";
  const std::string exact = exact_text(spec.exact);
  return std::string(spec.code == Code::trellis ? ", trellis" : "") + (exact.empty() ? "" : ", " + exact);
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
                     "Key methods, comma-separated: " + method_list(key_methods()));
  command.add_option("--v-method", o.v_methods,
                     "Value methods, every one with every key method: " + method_list(value_methods()));
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
  if (!o.k_methods.empty()) k_methods = parse_methods(o.k_methods, key_methods(), "--k-method");
  if (!o.v_methods.empty()) v_methods = parse_methods(o.v_methods, value_methods(), "--v-method");
  const std::vector<std::string> codes = split(o.codes, ',');
  std::vector<CacheSpec> specs;
  for (const BitPair& pair : bit_pairs(o)) {
    if (pair.k && k_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes keys: give --k-method", pair_text(pair)));
    if (pair.v && v_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes values: give --v-method", pair_text(pair)));
    for (const std::string& k : pair.k ? k_methods : exact)
      for (const std::string& v : pair.v ? v_methods : exact) {
        require_bits(key_methods(), k, pair.k);
        require_bits(value_methods(), v, pair.v);
        for (const std::string& code : codes) {
          const CacheSpec spec{k, v, pair, o.exact, parse_code(code)};
          if (spec.code == Code::scalar || has_trellis(spec))
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

QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map,
                          Codebook codebook) {
  QuantizedCache cache;
  cache.exact = spec.exact;
  if (spec.bits.k)
    cache.keys = make_layers(shape, map, spec.bits.k, [&](const HeadMap& head) {
      require_map(key_methods(), spec.k_method, map);
      return make_key_quantizer(spec.k_method, head, codebook, spec.code);
    });
  if (spec.bits.v)
    cache.values = make_layers(shape, map, spec.bits.v, [&](const HeadMap& head) {
      require_map(value_methods(), spec.v_method, map);
      return make_value_quantizer(spec.v_method, head, codebook, spec.code);
    });
  return cache;
}

}  // namespace blockgtq
