#include "hf/chat_format.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/presence.h"
#include "hf/gguf.h"
#include "hf/tokenizer.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {
namespace {

[[noreturn]] void fail_absent(const std::string& where) {
  throw Error(Exit::input, where + ": no chat template", "without --chat the prompt is taken as it is");
}

/// The template; where there are several named ones, the default.
std::string template_of(const Json& config, const std::string& where) {
  const auto it = config.is_object() ? config.find("chat_template") : config.end();
  if (it == config.end() || it->is_null()) fail_absent(where);
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array())
    for (const Json& named : *it)
      if (named.is_object() && named.contains("name") && named.at("name") == "default" &&
          named.contains("template") && named.at("template").is_string())
        return named.at("template").get<std::string>();
  fail_input("{}: chat_template: a {}, allowed: a text, or a list with one of the name default", where,
             it->type_name());
}

/// The text of the first token as a template gets it: empty where it is null; absent where no file names it.
std::optional<std::string> bos_text(const fs::path& folder) {
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (!is_there(folder / file)) continue;
    const Json config = read_json(folder / file, kMaxTokenizerBytes);
    if (!config.is_object() || !config.contains("bos_token")) continue;
    const Json& bos = config.at("bos_token");
    const Json& text = bos.is_object() && bos.contains("content") ? bos.at("content") : bos;
    if (text.is_null()) return "";
    if (text.is_string()) return text.get<std::string>();
    fail_input("{}: bos_token: a {}, allowed: a text", (folder / file).string(), text.type_name());
  }
  return std::nullopt;
}

/// The same for a GGUF file, which does not name a token that it lacks.
std::string bos_text(const GgufMetadata& metadata) {
  if (!metadata.has("tokenizer.ggml.bos_token_id")) return "";
  const std::vector<std::string_view> tokens = metadata.texts("tokenizer.ggml.tokens");
  const int64_t id = metadata.integer("tokenizer.ggml.bos_token_id", 0, int64_t(tokens.size()) - 1);
  return std::string(tokens[size_t(id)]);
}

void check_utf8(const std::string& text, const char* what) {
  if (const size_t at = find_invalid_utf8(text); at < text.size())
    fail_input("the {} is not UTF-8: byte 0x{:02X} at offset {}", what, static_cast<unsigned char>(text[at]),
               at);
}

/// The text without white space at both ends, as Python's str.strip() and so Jinja's trim: Unicode's white
/// space and ASCII's four separators.
std::string_view trimmed(std::string_view text) {
  const auto space = [](char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); };
  while (!text.empty()) {
    const Utf8Char first = decode_utf8(text.data());
    if (!space(first.value)) break;
    text.remove_prefix(size_t(first.length));
  }
  while (!text.empty()) {
    const Utf8Char last = decode_utf8_before(text, text.size());
    if (!space(last.value)) break;
    text.remove_suffix(size_t(last.length));
  }
  return text;
}

}  // namespace

std::string ChatFormat::prompt(const std::string& user, const std::optional<std::string>& other) const {
  const bool given = other && !other->empty();
  if (given && system.empty())
    throw Error(Exit::input, where + ": the chat template has no place for a system text",
                "without --system, its words may begin the prompt");
  if (!given && !without)
    throw Error(Exit::input, where + ": the chat template puts a system text of its own together",
                "--system TEXT is needed");
  check_utf8(user, "prompt");
  std::string turn = without.value_or("");
  if (given) {
    check_utf8(*other, "system text");
    turn = fmt::format(fmt::runtime(system), fmt::arg("bos", bos),
                       fmt::arg("text", trims_system ? trimmed(*other) : std::string_view(*other)));
  }
  return fmt::format(fmt::runtime(frame), fmt::arg("bos", bos), fmt::arg("system", turn),
                     fmt::arg("user", trims_user ? trimmed(user) : std::string_view(user)));
}

ChatFormat open_chat_format(const fs::path& model) {
  if (is_gguf(model)) {
    const MappedFile file(model);
    const GgufMetadata metadata = read_gguf(file).metadata;
    const std::string text = metadata.text("tokenizer.chat_template", "");
    if (text.empty()) fail_absent(model.string());
    return chat_format(text, bos_text(metadata), model.string());
  }
  if (const fs::path jinja = model / "chat_template.jinja"; is_there(jinja))
    return chat_format(read_text(jinja, kMaxChatTemplateBytes), bos_text(model), jinja.string());
  const fs::path config = model / "tokenizer_config.json";
  if (!is_there(config)) fail_absent(model.string());
  return chat_format(template_of(read_json(config, kMaxTokenizerBytes), config.string()), bos_text(model),
                     config.string());
}

}  // namespace blockgtq
