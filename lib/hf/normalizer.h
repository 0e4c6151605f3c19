#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// The "normalizer" of a tokenizer.json: Unicode normalization forms, Prepend and Replace, one after the
/// other. Exit::input names any other kind. Forms are those of Unicode 9.0, which the `tokenizers` library
/// knows; later code points stay unchanged.
class Normalizer {
 public:
  /// `json` may be null: then nothing is changed.
  Normalizer(const Json* json, const std::string& where);
  ~Normalizer();

  /// Whether the normalized text differs. Only then is it written to `out`.
  bool apply(std::string_view text, std::string& out) const;

 private:
  struct Step;
  void add(const Json& json, const std::string& where);

  std::vector<Step> steps_;
};

}  // namespace blockgtq
