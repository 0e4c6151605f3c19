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
  /// `json` may be null: then tokens are joined with spaces.
  Decoder(const Json* json, const std::string& where);

  static constexpr size_t kMaxSteps = 64;

  /// Exit::input where a step makes too much of the tokens (kMaxGrowth).
  std::string decode(std::vector<std::string> tokens) const;
  bool is_byte_level() const;  // and nothing else, so tokens can be decoded one by one

 private:
  enum class Kind { byte_level, byte_fallback, fuse, metaspace, replace, strip };
  struct Step {
    Kind kind;
    std::string from, to;        // of replace; of metaspace and strip `from` is their character
    size_t start = 0, stop = 0;  // of strip: at most so many at the start and at the end
    bool strips_first = false;   // of metaspace: the space before the first token is not part of the text
  };
  void add(const Json& json, const std::string& where);
  static void apply(const Step& step, std::vector<std::string>& tokens);

  std::string where_;
  bool is_null_;
  std::vector<Step> steps_;
};

}  // namespace blockgtq
