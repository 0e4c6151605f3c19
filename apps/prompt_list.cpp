#include "prompt_list.h"

#include <algorithm>

#include "base/error.h"
#include "hf/text_source.h"

namespace blockgtq {
namespace {

constexpr int64_t kMostTokens = int64_t(1) << 30;

[[noreturn]] void fail_value(const ListedPrompt& prompt, const std::string& key, const std::string& allowed) {
  fail_input("{}: \"{}\": {} expected", prompt.where, key, allowed);
}

int64_t whole_number(const Json& value, int64_t low, int64_t high, const ListedPrompt& prompt,
                     const std::string& key) {
  const bool whole =
      value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(high));
  if (!whole || value.get<int64_t>() < low || value.get<int64_t>() > high)
    fail_value(prompt, key, fmt::format("whole numbers in {}..{} are", low, high));
  return value.get<int64_t>();
}

std::string text_of(const Json& value, const ListedPrompt& prompt, const std::string& key) {
  if (!value.is_string()) fail_value(prompt, key, "a text is");
  return value.get<std::string>();
}

void take(ListedPrompt& prompt, const std::string& key, const Json& value) {
  if (key == "id") {
    if (!value.is_string() && !value.is_number_integer())
      fail_value(prompt, key, "a text or a whole number is");
    prompt.id = value;
  } else if (key == "prompt") {
    prompt.text = text_of(value, prompt, key);
  } else if (key == "ids") {
    if (!value.is_array() || value.empty()) fail_value(prompt, key, "a list of token ids is");
    for (const Json& id : value) prompt.ids.push_back(int32_t(whole_number(id, 0, INT32_MAX, prompt, key)));
  } else if (key == "n") {
    prompt.tokens = whole_number(value, 1, kMostTokens, prompt, key);
  } else if (key == "seed") {
    if (!value.is_number_unsigned()) fail_value(prompt, key, "a whole number from 0 on is");
    prompt.seed = value.get<uint64_t>();
  } else if (key == "stop") {
    prompt.stop.emplace();
    for (const Json& stop : value.is_array() ? value : Json::array({value}))
      prompt.stop->push_back(text_of(stop, prompt, key));
    if (std::find(prompt.stop->begin(), prompt.stop->end(), "") != prompt.stop->end())
      fail_input("{}: \"stop\": an empty text is in every text", prompt.where);
  } else {
    fail_input("{}: \"{}\": none of prompt, ids, id, n, seed and stop", prompt.where, key);
  }
}

ListedPrompt parse_line(std::string_view line, const std::string& where, int64_t number) {
  const Json json = parse_json(line, where);
  if (!json.is_object()) fail_input("{}: a JSON object is expected", where);
  ListedPrompt prompt;
  prompt.where = where;
  prompt.id = number;
  for (const auto& [key, value] : json.items()) take(prompt, key, value);
  if (prompt.text.has_value() != prompt.ids.empty())
    fail_input("{}: one of \"prompt\" and \"ids\" is expected", where);
  return prompt;
}

}  // namespace

std::vector<ListedPrompt> read_prompts(const fs::path& file) {
  const TextSource source(file, kMaxStreamBytes);
  if (source.is_cut()) fail_input("{}: more than {} bytes", source.name(), kMaxStreamBytes);
  std::vector<ListedPrompt> prompts;
  std::string_view rest = source.text();
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    prompts.push_back(parse_line(line, fmt::format("{}: line {}", source.name(), number), number));
  }
  if (prompts.empty()) fail_input("{}: no prompts", source.name());
  return prompts;
}

}  // namespace blockgtq
