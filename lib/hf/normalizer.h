#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// The "normalizer" of a tokenizer.json: Unicode normalization forms, one after the other, as of Unicode 9.0
/// (what the `tokenizers` library knows; later code points stay as they are). Other kinds are refused by
/// name.
class Normalizer {
 public:
  /// `json` may be null (nothing to do).
  Normalizer(const Json* json, const std::string& where);

  /// Whether the normalized text differs; only then is it put into `out`.
  bool apply(std::string_view text, std::string& out) const;

 private:
  enum class Form { nfc, nfd, nfkc, nfkd };
  void add(const Json& json, const std::string& where);
  static bool apply(Form form, std::string_view text, std::string& out);

  std::vector<Form> forms_;
};

}  // namespace blockgtq
