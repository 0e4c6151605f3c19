#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// The "normalizer" of a tokenizer.json: Unicode normalization forms as of Unicode 9.0 (what the `tokenizers`
/// library knows; later code points stay as they are), Prepend and Replace, one after the other; at most
/// kMaxSteps. Other kinds are refused by name.
class Normalizer {
 public:
  /// `json` may be null: then nothing is changed.
  Normalizer(const Json* json, const std::string& where);
  ~Normalizer();

  static constexpr size_t kMaxSteps = 64;

  /// Whether the normalized text differs; only then is it put into `out`. Exit::input where a step makes too
  /// much of the text (kMaxGrowth).
  bool apply(std::string_view text, std::string& out) const;

 private:
  struct Step;
  void add(const Json& json, const std::string& where);

  std::string where_;
  std::vector<Step> steps_;
};

}  // namespace blockgtq
