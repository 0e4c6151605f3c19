#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "options.h"
#include "serve/cache_spec.h"

namespace blockgtq {

/// "K2V3,K2,V2.5" -> pairs, in that order without repetition; Exit::usage otherwise, which names the option.
std::vector<BitPair> parse_pairs(const std::string& text, const char* option = "--pairs");

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

}  // namespace blockgtq
