#pragma once
#include <string>
#include <vector>

#include "cache_spec.h"
#include "quality_report.h"

namespace blockgtq {

/// A reference, whose bytes are the ceiling, and the methods that may take its place in these codes, at any
/// bits that fit under it.
struct ChooseSpec {
  CacheSpec reference;
  std::vector<std::string> k_methods, v_methods;
  std::vector<Code> codes;
};

/// --choose: `reference` is "block-gtq/tq-mse", a key and a value method, at every pair of bits of specs,
/// whose methods stand against it.
std::vector<ChooseSpec> choose_specs(const std::string& reference, const std::vector<CacheSpec>& specs);

/// --bits-kv: every pair of methods in every code that it has, at the most even split of every average,
/// against itself at other splits. Without values per head (MLA) all bits are the keys'.
std::vector<ChooseSpec> split_specs(const std::vector<double>& averages,
                                    const std::vector<std::string>& k_methods,
                                    const std::vector<std::string>& v_methods, const std::vector<Code>& codes,
                                    const ExactWindow& window, const AttentionShape& shape);

/// The budgets that a map must hold for every candidate.
std::vector<double> choose_budgets(const std::vector<ChooseSpec>& choose);

/// The reference, then all that fits under the ceiling and could be best, in windows of n tokens.
std::vector<CacheSpec> candidates(const ChooseSpec& choose, const AttentionShape& shape, const BitMap* map,
                                  Codebook codebook, int64_t n);

/// Numbers per token that caches of these bits quantize, all layers and KV heads.
double n_numbers(const BitPair& bits, const AttentionShape& shape);

/// The text to choose on: `tokens` of them behind those that statistics are made from (calibration.tokens of
/// them, not 0), in windows of `chunk`. What fits those too closely must not win by it.
RunOptions text_behind(RunOptions calibration, int64_t tokens, int64_t chunk);

/// resume: as measure_quality's. Measures the candidates of all references on `text` and takes what
/// eval/candidate.h chooses of each.
std::vector<Choice> choose_caches(const std::vector<ChooseSpec>& references, const Session& text,
                                  const BitMap* map, Codebook codebook, const std::string& what,
                                  Progress& progress, ResumeFile* resume);

}  // namespace blockgtq
