#pragma once
#include <string>
#include <vector>

#include "cache_spec.h"
#include "quality_report.h"

namespace blockgtq {

/// A reference, whose bytes are the ceiling, and the methods that may take its place at any bits that fit
/// under it.
struct ChooseSpec {
  CacheSpec reference;
  std::vector<std::string> k_methods, v_methods;
};

/// --choose: `reference` is "block-gtq/tq-mse", a key and a value method, at every pair of bits of specs,
/// whose methods stand against it.
std::vector<ChooseSpec> choose_specs(const std::string& reference, const std::vector<CacheSpec>& specs);

/// --bits-kv: every pair of methods at the most even split of every average, against itself at other splits.
/// Without values per head (MLA) all bits are the keys'.
std::vector<ChooseSpec> split_specs(const std::vector<double>& averages,
                                    const std::vector<std::string>& k_methods,
                                    const std::vector<std::string>& v_methods, const ExactWindow& window,
                                    const AttentionShape& shape);

/// The budgets that a map must hold for every candidate.
std::vector<double> choose_budgets(const std::vector<ChooseSpec>& choose);

/// All that fits under the ceiling and could be best, in windows of n tokens.
std::vector<CacheSpec> candidates(const ChooseSpec& choose, const AttentionShape& shape, const BitMap* map,
                                  Codebook codebook, int64_t n);

/// Measures the candidates of all references on `text` and takes the lowest mean KL of each: the first of
/// equals.
std::vector<Choice> choose_caches(const std::vector<ChooseSpec>& choose, const Session& text,
                                  const BitMap* map, Codebook codebook, const std::string& what,
                                  Progress& progress);

}  // namespace blockgtq
