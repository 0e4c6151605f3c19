#include "tasks/json_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/text_source.h"

namespace blockgtq {
namespace {

const Json& field(const Json& line, const char* name, const std::string& where) {
  const auto found = line.find(name);
  if (found == line.end()) fail_input("{}: \"{}\" is missing", where, name);
  return *found;
}

[[noreturn]] void fail_type(const std::string& where, const char* name, const char* wanted,
                            const Json& found) {
  fail_input("{}: \"{}\" is not {}: {} found", where, name, wanted, found.type_name());
}

}  // namespace

void for_each_line(const fs::path& path, int64_t limit,
                   const std::function<void(const Json&, const std::string&)>& body) {
  if (path != "-") const MappedFile regular(path);  // a pipe that nobody writes to would be waited for
  const TextSource source(path, kMaxLinesBytes);
  if (source.is_cut()) fail_input("{}: file too large: more than {} bytes", source.name(), kMaxLinesBytes);
  std::string_view text = source.text();
  int64_t n = 0;
  for (int64_t number = 1; !text.empty() && (limit == 0 || n < limit); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", source.name(), number);
    const Json json = parse_json(line, where);
    if (!json.is_object()) fail_input("{}: not a JSON object: {} found", where, json.type_name());
    body(json, where);
    ++n;
  }
  if (n == 0) fail_input("{}: no lines of JSON", source.name());
}

std::string text_field(const Json& line, const char* name, const std::string& where) {
  const Json& value = field(line, name, where);
  if (!value.is_string()) fail_type(where, name, "a text", value);
  return value.get<std::string>();
}

std::vector<std::string> texts_field(const Json& line, const char* name, const std::string& where) {
  const Json& value = field(line, name, where);
  if (!value.is_array()) fail_type(where, name, "a list of texts", value);
  std::vector<std::string> texts;
  for (const Json& text : value) {
    if (!text.is_string()) fail_type(where, name, "a list of texts", text);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::string text_or_number_field(const Json& line, const char* name, const std::string& where) {
  const Json& value = field(line, name, where);
  if (value.is_number_integer()) return value.dump();
  if (!value.is_string()) fail_type(where, name, "a text or a whole number", value);
  return value.get<std::string>();
}

}  // namespace blockgtq
