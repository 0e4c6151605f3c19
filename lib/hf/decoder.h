#pragma once
#include <string>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// The "decoder" of a tokenizer.json: what tokens, as the vocabulary writes them, stand for. ByteLevel,
/// ByteFallback, Fuse, Metaspace, Replace (of a text), Sequence and Strip, at most kMaxSteps; others are
/// refused by name.
class Decoder {
 public:
  /// `json` may be null: tokens with a space between.
  Decoder(const Json* json, const std::string& where);

  static constexpr size_t kMaxSteps = 64;

  /// Exit::input where a step makes too much of the tokens (kMaxGrowth).
  std::string decode(std::vector<std::string> tokens) const;
  bool is_byte_level() const;  // and nothing else: tokens are decoded one by one

 private:
  enum class Kind { byte_level, byte_fallback, fuse, metaspace, replace, strip };
  struct Step {
    Kind kind;
    std::string from, to;        // replace; metaspace and strip: `from` is their character
    size_t start = 0, stop = 0;  // strip: at most so many, at both ends
    bool strips_first = false;   // metaspace: the space before the first token is none of the text's
  };
  void add(const Json& json, const std::string& where);
  static void apply(const Step& step, std::vector<std::string>& tokens);

  std::string where_;
  bool is_null_;
  std::vector<Step> steps_;
};

}  // namespace blockgtq
