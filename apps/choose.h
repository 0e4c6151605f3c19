#pragma once
#include <string>
#include <vector>

#include "cache_spec.h"
#include "quality_report.h"

namespace blockgtq {

/// What --choose compares: at every pair of bits a reference, whose bytes are the ceiling, and the methods
/// that may take its place at any bits that fit under it.
struct ChooseSpec {
  std::vector<CacheSpec> references;
  std::vector<std::string> k_methods, v_methods;
};

/// `reference` is "block-gtq/tq-mse", a key and a value method; pairs and methods are those of specs.
ChooseSpec choose_spec(const std::string& reference, const std::vector<CacheSpec>& specs);

/// The budgets that a map must hold for every candidate: steps of a quarter bit.
std::vector<double> choose_budgets(const ChooseSpec& choose);

/// All that fits under the ceiling and could be best: per key method, value method and bits of keys, the most
/// bits of values that the reference's bytes allow (in windows of n tokens).
std::vector<CacheSpec> candidates(const CacheSpec& reference, const ChooseSpec& choose,
                                  const AttentionShape& shape, const BitMap* map, int64_t n);

/// Measures the candidates of all references on `text` and takes the lowest mean KL of each: the first of
/// equals.
std::vector<Choice> choose_caches(const ChooseSpec& choose, const Session& text, const BitMap* map,
                                  const std::string& what, Progress& progress);

}  // namespace blockgtq
