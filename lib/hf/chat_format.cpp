#include "hf/chat_format.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "hf/gguf.h"
#include "hf/tokenizer.h"

namespace blockgtq {
namespace {

constexpr std::string_view kBegin = "<|im_start|>", kEnd = "<|im_end|>";

[[noreturn]] void fail_absent(const std::string& where) {
  throw Error(Exit::input, where + ": no chat template", "without --chat the prompt is taken as it is");
}

/// "\n" in a string of a template, written out or as two characters: how long it is; 0 where there is none.
size_t newline_at(std::string_view text, size_t at) {
  return text.substr(at, 1) == "\n" ? 1 : text.substr(at, 2) == "\\n" ? 2 : 0;
}

/// The text between "<|im_start|>system\n" and "<|im_end|>" where it stands in one string of the template:
/// what is put in where no message is the system's.
std::string own_system(std::string_view text) {
  const std::string head = std::string(kBegin) + "system";
  for (size_t at = text.find(head); at != std::string_view::npos; at = text.find(head, at + 1)) {
    size_t first = at + head.size();
    const size_t newline = newline_at(text, first);
    if (newline == 0) continue;
    first += newline;
    const size_t end = text.find(kEnd, first), quote = text.find_first_of("'\"{}", first);
    if (end == std::string_view::npos) break;
    // An apostrophe inside may be escaped; an unescaped one ends the string, and what follows is a message's.
    if (quote < end && text[quote - 1] != '\\') continue;
    std::string system;
    for (size_t i = first; i < end; ++i) {
      const bool escaped = text[i] == '\\' && i + 1 < end;
      if (escaped) ++i;
      system += escaped && text[i] == 'n' ? '\n' : text[i];
    }
    return system;
  }
  return "";
}

/// A template, or of several named ones the default.
std::string template_of(const Json& config, const std::string& where) {
  const auto it = config.is_object() ? config.find("chat_template") : config.end();
  if (it == config.end() || it->is_null()) fail_absent(where);
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array())
    for (const Json& named : *it)
      if (named.is_object() && named.value("name", "") == "default" && named.contains("template") &&
          named.at("template").is_string())
        return named.at("template").get<std::string>();
  fail_input("{}: chat_template: a {}, allowed: a text, or a list with one of the name default", where,
             it->type_name());
}

}  // namespace

std::string ChatFormat::prompt(const std::string& user, const std::optional<std::string>& other) const {
  std::string text;
  const auto add = [&](const char* role, const std::string& message) {
    text += std::string(kBegin) + role + "\n" + message + std::string(kEnd) + "\n";
  };
  if (const std::string& first = other ? *other : system; other || !first.empty()) add("system", first);
  add("user", user);
  return text + std::string(kBegin) + "assistant\n";
}

ChatFormat chat_format(const std::string& chat_template, const std::string& where) {
  if (chat_template.find(kBegin) == std::string::npos || chat_template.find(kEnd) == std::string::npos)
    throw Error(Exit::input,
                fmt::format("{}: the chat template is not ChatML, the format that is known", where),
                "write the conversation out as the model wants it, and leave --chat out");
  return {own_system(chat_template)};
}

ChatFormat open_chat_format(const fs::path& model) {
  if (is_gguf(model)) {
    const MappedFile file(model);
    const std::string text = read_gguf(file).metadata.text("tokenizer.chat_template", "");
    if (text.empty()) fail_absent(model.string());
    return chat_format(text, model.string());
  }
  if (const fs::path jinja = model / "chat_template.jinja"; fs::exists(jinja))
    return chat_format(read_text(jinja, kMaxTokenizerBytes), jinja.string());
  const fs::path config = model / "tokenizer_config.json";
  if (!fs::exists(config)) fail_absent(model.string());
  return chat_format(template_of(read_json(config, kMaxTokenizerBytes), config.string()), config.string());
}

}  // namespace blockgtq
