// The tokenizer of a model's folder. Added tokens are in several files, which transformers (5.x) reads as
// follows:
//  - tokenizer_config.json's "added_tokens_decoder" where it exists; otherwise added_tokens.json, and
//    special_tokens_map.json as if its members were in tokenizer_config.json;
//  - special tokens that are named (bos_token, eos_token, ..., every other NAME_token) and listed
//    (extra_special_tokens, once additional_special_tokens), unless they are added tokens already.
// They follow those of tokenizer.json in this order. Ids continue to count, whatever the files say.
#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/presence.h"
#include "hf/added_tokens.h"
#include "hf/gguf_tokenizer.h"
#include "hf/tokenizer.h"
#include "hf/tokenizer_json.h"

namespace blockgtq {

namespace {

constexpr const char* kNamed[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

Json read_object(const fs::path& path) {
  if (!is_there(path)) return Json::object();
  Json json = read_json(path, kMaxTokenizerBytes);
  if (!json.is_object()) fail_input("{}: not an object: a JSON {}", path.string(), json.type_name());
  return json;
}

/// A token given as text, or as an object with options. `special` is the default where the object does not
/// say.
AddedToken read_token(const Json& json, bool special, const std::string& where) {
  AddedToken token;
  token.special = special;
  if (json.is_string()) {
    token.content = json.get<std::string>();
  } else {
    token.content = get_string(json, "content", where);
    token.special = get_bool(json, "special", where, special);
  }
  const auto option = [&](const char* key, bool otherwise) {
    return json.is_string() ? otherwise : get_bool(json, key, where, otherwise);
  };
  token.single_word = option("single_word", false);
  token.lstrip = option("lstrip", false);
  token.rstrip = option("rstrip", false);
  token.normalized = option("normalized", !token.special);
  return token;
}

void sort_by_id(std::vector<ExtraToken>& tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const ExtraToken& a, const ExtraToken& b) { return a.id < b.id; });
}

std::vector<ExtraToken> read_added_tokens_decoder(const Json& json, const std::string& where) {
  if (!json.is_object()) fail_input("{}: not an object: {}", where, json.type_name());
  std::vector<ExtraToken> tokens;
  for (auto it = json.begin(); it != json.end(); ++it) {
    ExtraToken extra;
    const char *begin = it.key().data(), *end = begin + it.key().size();
    const auto [stop, error] = std::from_chars(begin, end, extra.id);
    if (error != std::errc() || stop != end || extra.id < 0 || extra.id > kMaxTokenId)
      fail_input("{}: not a token id: \"{}\", allowed: 0..{}", where, it.key(), kMaxTokenId);
    extra.token = read_token(it.value(), false, where);
    tokens.push_back(std::move(extra));
  }
  sort_by_id(tokens);
  return tokens;
}

std::vector<ExtraToken> read_added_tokens_file(const Json& json, const std::set<std::string>& special,
                                               const std::string& where) {
  std::vector<ExtraToken> tokens;
  for (auto it = json.begin(); it != json.end(); ++it) {
    ExtraToken extra;
    extra.id = non_negative(it.value());
    if (extra.id < 0 || extra.id > kMaxTokenId)
      fail_input("{}: the id of \"{}\" is out of range: {}, allowed: 0..{}", where, it.key(),
                 it.value().dump(), kMaxTokenId);
    extra.token.content = it.key();
    extra.token.special = special.count(it.key()) > 0;
    extra.token.normalized = !extra.token.special;
    extra.only_new_id = true;
    tokens.push_back(std::move(extra));
  }
  sort_by_id(tokens);
  return tokens;
}

/// Puts the members of `map` over those of `config`, which keep their places; new ones go behind.
/// ordered_json's own insertion searches all members before.
void overlay(Json& config, const Json& map) {
  std::map<std::string_view, const Json*> over;
  for (auto it = map.begin(); it != map.end(); ++it) over[it.key()] = &it.value();
  for (auto it = config.begin(); it != config.end(); ++it) {
    const auto found = over.find(it.key());
    if (found == over.end()) continue;
    it.value() = *found->second;
    over.erase(found);
  }
  auto& members = static_cast<Json::object_t::Container&>(config.get_ref<Json::object_t&>());
  for (auto it = map.begin(); it != map.end(); ++it)
    if (over.count(it.key())) members.emplace_back(it.key(), it.value());
}

/// Special tokens by name and of lists, in transformers' order.
std::vector<AddedToken> read_special_tokens(const Json& config, const std::string& where) {
  std::vector<AddedToken> tokens;
  const auto add = [&](const Json& json) {
    if (json.is_string() || json.is_object()) tokens.push_back(read_token(json, true, where));
  };
  for (const char* name : kNamed)
    if (const Json* token = find_member(config, name)) add(*token);
  const Json* extra = find_member(config, "extra_special_tokens");
  if (extra && extra->empty()) extra = nullptr;
  if (extra && extra->is_object())
    for (const Json& token : *extra) add(token);
  for (auto it = config.begin(); it != config.end(); ++it)
    if (it.key().ends_with("_token") &&
        std::find(std::begin(kNamed), std::end(kNamed), it.key()) == std::end(kNamed))
      add(it.value());
  const Json* list = extra && extra->is_array() ? extra : find_member(config, "additional_special_tokens");
  if (list && list->is_array())
    for (const Json& token : *list) add(token);
  return tokens;
}

std::vector<ExtraToken> read_extra_tokens(const fs::path& folder) {
  const fs::path config_path = folder / "tokenizer_config.json";
  Json config = read_object(config_path);
  const std::string where = config_path.string();
  std::vector<ExtraToken> extra;
  if (const Json* decoder = find_member(config, "added_tokens_decoder")) {
    extra = read_added_tokens_decoder(*decoder, where + ": added_tokens_decoder");
  } else {
    const Json map = read_object(folder / "special_tokens_map.json");
    overlay(config, map);
    std::set<std::string> special;
    for (const AddedToken& token : read_special_tokens(config, where)) special.insert(token.content);
    const fs::path path = folder / "added_tokens.json";
    extra = read_added_tokens_file(read_object(path), special, path.string());
  }
  for (const AddedToken& token : read_special_tokens(config, where))
    extra.push_back({token, -1, true, false});
  return extra;
}

/// Exit::input: says what the folder has in place of a tokenizer.json, and how to make one of it.
[[noreturn]] void fail_without_tokenizer(const fs::path& folder) {
  std::string found = "no tokenizer.json";
  for (const char* file : {"tokenizer.model", "tekken.json", "tiktoken.model", "vocab.json"})
    if (is_there(folder / file)) {
      found += fmt::format(", only {}", file);
      if (file == std::string("vocab.json") && is_there(folder / "merges.txt")) found += " and merges.txt";
      break;
    }
  const bool convertible = found != "no tokenizer.json";
  throw Error(Exit::input, fmt::format("{}: {}", folder.string(), found),
              convertible ? "--ids FILE takes token ids instead of text; in Python, AutoTokenizer."
                            "from_pretrained(DIR).save_pretrained(DIR) of transformers makes a tokenizer.json"
                          : "--ids FILE takes token ids instead of text");
}

}  // namespace

Tokenizer open_tokenizer(const fs::path& folder_or_gguf) {
  const fs::path& folder = folder_or_gguf;
  if (is_gguf(folder)) return Tokenizer(gguf_tokenizer(folder), folder.string());
  const fs::path path = folder / "tokenizer.json";
  if (!is_there(path)) fail_without_tokenizer(folder);
  return Tokenizer(MappedFile(path).text(), path.string(), read_extra_tokens(folder));
}

}  // namespace blockgtq
