#include "cache_spec.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "quant/codebook.h"
#include "quant/methods.h"

namespace blockgtq {

std::vector<BitPair> parse_pairs(const std::string& text, const char* option) {
  std::vector<BitPair> pairs;
  for (const std::string& part : split(text, ',')) {
    const BitPair pair = parse_pair(part, option);
    if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
  }
  return pairs;
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
                     "Key methods, comma-separated: " + method_list(key_method_names()) +
                         " (what the map of calibrate --choose says)");
  command.add_option("--v-method", o.v_methods,
                     "Value methods, every one with every key method: " + method_list(value_method_names()));
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
  if (!o.k_methods.empty()) k_methods = parse_methods(o.k_methods, key_method_names(), "--k-method");
  if (!o.v_methods.empty()) v_methods = parse_methods(o.v_methods, value_method_names(), "--v-method");
  const std::vector<Code> codes = codes_of(o);
  std::vector<CacheSpec> specs;
  for (const BitPair& pair : bit_pairs(o)) {
    if (pair.k && k_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes keys: give --k-method", pair_text(pair)));
    if (pair.v && v_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes values: give --v-method", pair_text(pair)));
    for (const std::string& k : pair.k ? k_methods : exact)
      for (const std::string& v : pair.v ? v_methods : exact) {
        for (const Code code : codes) {
          const CacheSpec spec{k, v, pair, o.exact, code_of(pair, code)};
          require_bits(spec);
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

}  // namespace blockgtq
