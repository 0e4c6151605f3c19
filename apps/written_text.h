#pragma once
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "hf/tokenizer.h"

namespace blockgtq {

/// Where a text ends.
struct TextEnd {
  int64_t tokens = 128;           // at most, at least 1
  std::vector<std::string> stop;  // before one of these; none of them empty
  std::vector<int32_t> last;      // with one of these tokens
};

/// What these tokens are behind a prompt: pieces that begin a text would lose their space.
std::string text_behind(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                        std::span<const int32_t> ids);

/// What a model writes behind a prompt, as its tokens come.
class WrittenText {
 public:
  /// tokenizer outlives this.
  WrittenText(const Tokenizer& tokenizer, std::span<const int32_t> prompt, TextEnd end);

  /// The next token; whether the text goes on behind it.
  bool add(int32_t token);
  /// What has come since the last call: whole characters, and the rest where the text has ended.
  std::string fresh();

  const std::vector<int32_t>& ids() const { return ids_; }
  /// "prompt_tokens", "ids", "text" (whole characters) and "ended" ("length", "end token" or "stop").
  Json json() const;

 private:
  bool cut_at_stop();

  const Tokenizer& tokenizer_;
  const TextEnd end_;
  size_t prompt_tokens_, printed_ = 0;
  std::vector<int32_t> before_, ids_;  // before_: the prompt's last tokens
  std::string text_, ended_;           // ended_: empty until then
};

}  // namespace blockgtq
