#include <algorithm>

#include "hf/utf8.h"
#include "tasks/scores.h"

namespace blockgtq {
namespace {

/// The text in the braces that open at text[open]; none where they do not close. An escaped brace is text.
std::optional<std::string> in_braces(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return std::string(text.substr(open + 1, i - open - 1));
    }
  }
  return std::nullopt;
}

bool is_decimal(char c) {
  return c >= '0' && c <= '9';
}

/// The text without commas between a digit and a group of three digits.
std::string without_group_commas(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    size_t digits = 0;
    while (i + 1 + digits < text.size() && is_decimal(text[i + 1 + digits])) ++digits;
    if (text[i] != ',' || i == 0 || !is_decimal(text[i - 1]) || digits != 3) out += text[i];
  }
  return out;
}

std::string plain_answer(std::string_view answer) {
  std::string text(answer);
  for (const char* what : {"\\left", "\\right", "\\!", "\\,", "\\;", "\\ ", "$", " ", "\t", "\n", "\r"})
    text = replace_all(text, what, "");
  for (const std::string_view command : {"\\text", "\\mathrm", "\\mathbf", "\\textbf"})
    if (text.starts_with(std::string(command) + "{"))
      if (const auto inner = in_braces(text, command.size());
          inner && command.size() + inner->size() + 2 == text.size())
        text = *inner;
  text = without_group_commas(replace_all(text, "{,}", ","));
  while (text.ends_with('.')) text.pop_back();
  return text;
}

/// The digits of a whole number, with its sign and without leading zeros; none where it is not one.
std::optional<std::string> whole_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_decimal)) return std::nullopt;
  text.remove_prefix(std::min(text.find_first_not_of('0'), text.size() - 1));
  return (negative && text != "0" ? "-" : "") + std::string(text);
}

}  // namespace

std::optional<std::string> boxed(std::string_view answer) {
  std::optional<std::string> last;
  for (size_t at = answer.find('\\'); at != std::string_view::npos; at = answer.find('\\', at + 1))
    for (const std::string_view command : {"\\boxed", "\\fbox"}) {
      if (!answer.substr(at).starts_with(command)) continue;
      size_t open = at + command.size();
      while (open < answer.size() && answer[open] == ' ') ++open;
      if (open < answer.size() && answer[open] == '{')
        if (std::optional<std::string> inner = in_braces(answer, open)) last = std::move(inner);
    }
  return last;
}

bool same_answer(std::string_view a, std::string_view b) {
  const std::string x = plain_answer(a), y = plain_answer(b);
  const std::optional<std::string> i = whole_number(x), j = whole_number(y);
  return i && j ? *i == *j : x == y;
}

}  // namespace blockgtq
