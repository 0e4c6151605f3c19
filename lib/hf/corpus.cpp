#include "hf/corpus.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/presence.h"
#include "base/sha256.h"
#include "hf/config.h"
#include "hf/gguf.h"
#include "hf/model_files.h"
#include "hf/text_source.h"
#include "hf/tokenizer.h"
#include "hf/tokenizer_json.h"

namespace blockgtq {

namespace {

/// The first `wanted` ids of a list of decimal numbers, separated by white space or commas. The rest is not
/// read.
std::vector<int32_t> parse_ids(std::string_view text, const std::string& name, size_t wanted, int vocab) {
  std::vector<int32_t> ids;
  const auto separates = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ','; };
  size_t line = 1;
  for (size_t i = 0; i < text.size() && ids.size() < wanted;) {
    if (separates(text[i])) {
      line += text[i++] == '\n';
      continue;
    }
    size_t end = i;
    while (end < text.size() && !separates(text[end])) ++end;
    const std::string_view word = text.substr(i, end - i);
    int32_t id = -1;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error == std::errc::result_out_of_range ||
        (error == std::errc() && stop == word.data() + word.size() && (id < 0 || id >= vocab)))
      fail_input("{}: line {}: the token id is out of range: {}, allowed: 0..{}", name, line,
                 word.substr(0, 40), vocab - 1);
    if (error != std::errc() || stop != word.data() + word.size())
      fail_input("{}: line {}: not a token id: \"{}\", expected decimal numbers", name, line,
                 word.substr(0, 40));
    ids.push_back(id);
    i = end;
  }
  return ids;
}

/// Says why the text behind `n` usable bytes cannot be used. A text that is cut may end inside a character.
[[noreturn]] void fail_behind(const TextSource& source, size_t n) {
  if (n + (source.is_cut() ? 3 : 0) < source.text().size())
    fail_input("{}: not UTF-8: byte 0x{:02X} at offset {}", source.name(), uint8_t(source.text()[n]), n);
  fail_input(
      "{}: the texts are too large: more than the {} bytes that are read hold fewer tokens than wanted",
      source.name(), source.max_bytes());
}

/// The first `wanted` ids of a text (SIZE_MAX: all), where encode(text, n) gives the first n. A bad byte, or
/// the end of what was read, is an error only where the tokens come near it: at least one more token than
/// wanted has to lie before it.
std::vector<int32_t> first_ids(const TextSource& source, size_t wanted, const auto& encode) {
  const std::string_view text = source.text();
  const size_t usable = source.find_invalid();
  if (usable == text.size() && !source.is_cut()) return encode(text, wanted);
  if (wanted == SIZE_MAX) fail_behind(source, usable);
  std::vector<int32_t> ids = encode(text.substr(0, usable), wanted + 1);
  if (ids.size() <= wanted) fail_behind(source, usable);
  ids.pop_back();
  return ids;
}

std::vector<int32_t> check_ids(std::vector<int32_t> ids, const std::string& name, int vocab) {
  for (const int32_t id : ids)
    if (id >= vocab)
      fail_input("{}: the tokenizer gives a token the model does not have: {}, allowed: 0..{}", name, id,
                 vocab - 1);
  return ids;
}

/// The value of `key` in generation_config.json, or else config.json, or the GGUF file: one id of the
/// model's; or, unless `single`, a list of ids, without those beyond the model's; or none.
std::vector<int32_t> special_ids(const fs::path& model, const char* key, int vocab, bool single) {
  const bool gguf = is_gguf(model);
  for (const char* file : {"generation_config.json", "config.json"}) {
    const fs::path path = gguf ? model : model / file;
    if (!gguf && !is_there(path)) continue;
    const Json config =
        parse_json(gguf ? config_text(model) : read_text(path, kMaxConfigBytes), path.string());
    const auto it = config.is_object() ? config.find(key) : config.end();
    if (it == config.end() || it->is_null()) continue;
    std::vector<int32_t> ids;
    for (const Json& one : it->is_array() && !single ? *it : Json::array({*it})) {
      const int64_t id = non_negative(one);
      if (id < 0 || (single && id >= vocab))
        fail_input("{}: {} is not a token id: {}, allowed: 0..{}", path.string(), key, one.dump(), vocab - 1);
      if (id < vocab) ids.push_back(int32_t(id));
    }
    return ids;
  }
  return {};
}

}  // namespace

int32_t first_token_id(const fs::path& model, int vocab) {
  if (const std::vector<int32_t> ids = special_ids(model, "bos_token_id", vocab, true); !ids.empty())
    return ids[0];
  if (is_gguf(model)) fail_input("{}: no tokenizer.ggml.bos_token_id, which --bos needs", model.string());
  fail_input("{}: no bos_token_id in generation_config.json or config.json, which --bos needs",
             model.string());
}

std::vector<int32_t> last_token_ids(const fs::path& model, int vocab) {
  return special_ids(model, "eos_token_id", vocab, false);
}

Corpus read_corpus(const CorpusSpec& spec, const fs::path& model, int vocab) {
  const bool from_ids = !spec.ids.empty();
  if (from_ids && !spec.files.empty())
    throw Error(Exit::usage,
                fmt::format("{}: both texts and token ids are given, allowed: one", spec.ids.string()));
  if (!from_ids && spec.files.empty()) throw Error(Exit::usage, "no text and no token ids are given");
  if (spec.n_tokens < 0 || spec.skip_tokens < 0)
    throw Error(Exit::usage,
                fmt::format("negative number of tokens: {} after {}", spec.n_tokens, spec.skip_tokens));

  Corpus corpus;
  std::optional<int32_t> bos;  // the first token, before the rest of the text
  if (spec.bos) bos = first_token_id(model, vocab);
  const size_t before = bos ? 1 : 0, skip = size_t(spec.skip_tokens);
  // Tokens of the text, including skipped ones; SIZE_MAX for all of them.
  const size_t wanted = spec.n_tokens == 0 ? SIZE_MAX : skip + size_t(spec.n_tokens) - before;

  std::vector<int32_t> found;
  Sha256 hash;
  std::optional<Tokenizer> tokenizer;
  size_t room = kMaxCorpusBytes;
  for (const fs::path& path : from_ids ? std::vector<fs::path>{spec.ids} : spec.files) {
    const TextSource source(path, room);
    const std::string_view text = source.text();
    room -= text.size();
    corpus.description += (corpus.description.empty() ? "" : ", ") + source.short_name();
    if (found.size() < wanted) {
      const std::vector<int32_t> ids = first_ids(
          source, wanted - found.size(), [&](std::string_view usable, size_t n) -> std::vector<int32_t> {
            if (from_ids) return parse_ids(usable, source.name(), n, vocab);
            if (!tokenizer) tokenizer.emplace(open_tokenizer(model));
            return check_ids(tokenizer->encode(usable, n), source.name(), vocab);
          });
      found.insert(found.end(), ids.begin(), ids.end());
    }
    source.add_to(hash);
  }
  corpus.sha256 = hash.hex();
  corpus.tokenizer = tokenizer ? tokenizer->sha256() : "none";
  if (tokenizer)
    for (const std::string& warning : tokenizer->warnings())
      corpus.warnings.push_back(fmt::format("{}: {}", model.string(), warning));

  const size_t left = found.size() > skip ? found.size() - skip : 0;
  if (spec.n_tokens > 0 && before + left < size_t(spec.n_tokens))
    fail_input("{}: too short: {} tokens, {} wanted", corpus.description, before + left, spec.n_tokens);
  if (spec.n_tokens == 0 && left == 0)
    fail_input("{}: too short: {} tokens, of which {} are left out", corpus.description, found.size(), skip);
  corpus.ids.reserve(before + left);
  if (bos) corpus.ids.push_back(*bos);
  corpus.ids.insert(corpus.ids.end(), found.begin() + std::ptrdiff_t(skip), found.end());
  if (bos && spec.window > 0)
    for (size_t i = 0; i < corpus.ids.size(); i += size_t(spec.window)) corpus.ids[i] = *bos;
  return corpus;
}

}  // namespace blockgtq
