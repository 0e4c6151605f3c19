#include "written_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace blockgtq {
namespace {

constexpr size_t kTextBefore = 8;  // prompt tokens that are decoded with the new ones: pieces that begin a
                                   // text lose their space

/// Bytes at the start of text that are whole UTF-8 characters.
size_t whole_characters(const std::string& text) {
  size_t n = text.size();
  for (size_t back = 1; back <= std::min<size_t>(4, text.size()); ++back) {
    const auto byte = uint8_t(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (length > back) n -= back;
    break;
  }
  return n;
}

}  // namespace

WrittenText::WrittenText(const Tokenizer& tokenizer, std::span<const int32_t> prompt, TextEnd end)
    : tokenizer_(tokenizer), end_(std::move(end)), prompt_tokens_(prompt.size()) {
  const size_t before = std::min(prompt.size(), kTextBefore);
  tail_.assign(prompt.end() - std::ptrdiff_t(before), prompt.end());
  known_ = tokenizer_.decode(tail_).size();
}

bool WrittenText::add(int32_t token) {
  ids_.push_back(token);
  if (std::find(end_.last.begin(), end_.last.end(), token) != end_.last.end()) {
    ended_ = "end token";
    return false;
  }
  tail_.push_back(token);
  const std::string all = tokenizer_.decode(tail_);
  text_ = all.size() > known_ ? all.substr(known_) : "";
  if (cut_at_stop())
    ended_ = "stop";
  else if (int64_t(ids_.size()) == end_.tokens)
    ended_ = "length";
  return ended_.empty();
}

/// Whether a text to stop before has come; what begins with it is taken off.
bool WrittenText::cut_at_stop() {
  for (const std::string& stop : end_.stop) {
    const size_t at = text_.find(stop);
    if (at == std::string::npos) continue;
    text_.resize(at);
    return true;
  }
  return false;
}

std::string WrittenText::fresh() {
  const size_t first = printed_, end = ended_.empty() ? whole_characters(text_) : text_.size();
  printed_ = std::max(printed_, end);
  return text_.substr(std::min(first, text_.size()), printed_ - first);
}

Json WrittenText::json() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"ids", ids_},
          {"text", text_.substr(0, whole_characters(text_))},
          {"ended", ended_}};
}

}  // namespace blockgtq
