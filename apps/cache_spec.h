#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/quantized_cache.h"
#include "options.h"
#include "quant/bit_map.h"
#include "quant/bit_split.h"

namespace blockgtq {

/// "K2V3,K2,V2.5" -> pairs, in that order without repetition; Exit::usage otherwise, which names the option.
std::vector<BitPair> parse_pairs(const std::string& text, const char* option = "--pairs");
std::string pair_text(const BitPair& pair);  // "K2V3"; "exact"

/// What the bits of keys and of values mean.
struct CodePair {
  Code k = Code::scalar, v = Code::scalar;
  bool operator==(const CodePair&) const = default;
};
/// This code for what has bits; what is exact is scalar, so that equal caches have equal codes.
CodePair code_of(const BitPair& bits, Code code);

/// The name of a method that stands for what the map chose.
inline constexpr const char* kChosen = "chosen";

/// How keys and values are held: a method each, empty where they are exact, the positions that
/// are exact all the same, and what the bits mean.
struct CacheSpec {
  std::string k_method, v_method;
  BitPair bits;
  ExactWindow exact;
  CodePair code;
  bool operator==(const CacheSpec&) const = default;
};

std::string code_text(const CacheSpec& spec);  // "trellis"; "trellis / scalar" of keys and values that differ
std::string describe(const CacheSpec& spec);   // "K2V3 block-gtq / tq-mse, sink 4, recent 64"
std::string width_text(const CacheSpec& spec);  // "K2V3, sink 4, recent 64"; "exact"

/// Whether all that is quantized can have these codes.
bool has_codes(const CacheSpec& spec);

/// The budgets that a map must hold for these.
std::vector<double> budgets_of(const std::vector<CacheSpec>& specs);

/// --k-method, --v-method, --pairs, --bits-k, --bits-v, --code, --sink, --recent, --codebook.
struct CacheOptions {
  std::string k_methods, v_methods, pairs, bits_k, bits_v, codes = "scalar", codebook;
  ExactWindow exact;
};
void add_cache_options(CLI::App& command, CacheOptions& options);
/// Says in `run` what of these caches no kernel computes.
void require_kernels(const CacheOptions& options, RunOptions& run);
/// What --codebook says; not given, reference under --compat reference.
Codebook codebook_of(const CacheOptions& options, const RunOptions& run);
/// What --code says.
std::vector<Code> codes_of(const CacheOptions& options);

/// Every key method with every value method at every pair of bits (not given: K2V2 and K3V3, of what has a
/// method) in every code. What a pair leaves exact takes no method, so that no cache comes twice. Exit::usage
/// for bits without a method, and for a fraction of a bit where the method takes whole ones.
std::vector<CacheSpec> cache_specs(const CacheOptions& options);

/// Those that a model can be asked for. A latent cache (MLA) has no values per head: Exit::input, but in a
/// panel a warning, and what quantizes values is left out.
std::vector<CacheSpec> specs_of_model(const std::vector<CacheSpec>& specs, const AttentionShape& shape,
                                      const std::string& model, bool in_panel, Progress& progress);

/// With the map's methods and codes in the place of "chosen", no cache twice. Exit::input where the map holds
/// no choice for a budget, Exit::usage where there is no map. A warning where the choice was measured with
/// other exact positions.
std::vector<CacheSpec> resolve_chosen(const std::vector<CacheSpec>& specs, const BitMap* map,
                                      Progress& progress);

/// The quantizers of a model. The map must hold the budgets; it may be null where no method needs one
/// (Exit::usage).
QuantizedCache make_cache(const CacheSpec& spec, const AttentionShape& shape, const BitMap* map,
                          Codebook codebook);

}  // namespace blockgtq
