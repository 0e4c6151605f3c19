#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// The "normalizer" of a tokenizer.json: Unicode normalization forms as of Unicode 9.0 (what the `tokenizers`
/// library knows; later code points stay as they are), Prepend and Replace, one after the other. Other kinds
/// are refused by name.
class Normalizer {
 public:
  /// `json` may be null (nothing to do).
  Normalizer(const Json* json, const std::string& where);
  ~Normalizer();

  /// Whether the normalized text differs; only then is it put into `out`.
  bool apply(std::string_view text, std::string& out) const;

 private:
  struct Step;
  void add(const Json& json, const std::string& where);

  std::vector<Step> steps_;
};

}  // namespace blockgtq
