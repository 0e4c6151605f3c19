#include "written_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace blockgtq {
namespace {

constexpr size_t kTextBefore = 8;  // prompt tokens that are decoded with the new ones

std::span<const int32_t> last_of(std::span<const int32_t> prompt) {
  return prompt.last(std::min(prompt.size(), kTextBefore));
}

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

std::string text_behind(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                        std::span<const int32_t> ids) {
  const std::span<const int32_t> before = last_of(prompt);
  std::vector<int32_t> tail(before.begin(), before.end());
  const size_t known = tokenizer.decode(tail).size();
  tail.insert(tail.end(), ids.begin(), ids.end());
  const std::string all = tokenizer.decode(tail);
  return all.size() > known ? all.substr(known) : "";
}

WrittenText::WrittenText(const Tokenizer& tokenizer, std::span<const int32_t> prompt, TextEnd end)
    : tokenizer_(tokenizer),
      end_(std::move(end)),
      prompt_tokens_(prompt.size()),
      before_(last_of(prompt).begin(), last_of(prompt).end()) {}

bool WrittenText::add(int32_t token) {
  ids_.push_back(token);
  if (std::find(end_.last.begin(), end_.last.end(), token) != end_.last.end()) {
    ended_ = "end token";
    return false;
  }
  text_ = text_behind(tokenizer_, before_, ids_);
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
