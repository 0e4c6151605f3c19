#include "hf/corpus.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "hf/config.h"
#include "hf/tokenizer.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// The first `wanted` ids of a list of decimal numbers, separated by white space or commas.
std::vector<int32_t> parse_ids(std::string_view text, const std::string& name, size_t wanted, int vocab) {
  std::vector<int32_t> ids;
  const auto separates = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ','; };
  size_t line = 1;
  for (size_t i = 0; i < text.size();) {
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
    if (ids.size() < wanted) ids.push_back(id);
    i = end;
  }
  return ids;
}

void check_utf8(const MappedFile& file) {
  const std::string_view text = file.text();
  const size_t invalid = find_invalid_utf8(text);
  if (invalid < text.size())
    fail_input("{}: not UTF-8: byte 0x{:02X} at offset {}", file.path().string(),
               static_cast<unsigned char>(text[invalid]), invalid);
}

}  // namespace

int32_t first_token_id(const fs::path& model, int vocab) {
  for (const char* file : {"generation_config.json", "config.json"}) {
    const fs::path path = model / file;
    if (!fs::exists(path)) continue;
    const Json config = read_json(path, kMaxConfigBytes);
    const auto it = config.is_object() ? config.find("bos_token_id") : config.end();
    if (it == config.end() || it->is_null()) continue;
    const int64_t id = non_negative(*it);
    if (id < 0 || id >= vocab)
      fail_input("{}: bos_token_id is not a token id: {}, allowed: 0..{}", path.string(), it->dump(),
                 vocab - 1);
    return int32_t(id);
  }
  fail_input("{}: no bos_token_id in generation_config.json or config.json, which --bos needs",
             model.string());
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
  std::optional<int32_t> bos;  // the first of the tokens, before what is left of the text
  if (spec.bos) bos = first_token_id(model, vocab);
  const size_t before = bos ? 1 : 0, skip = size_t(spec.skip_tokens);
  // Of the text, skipped ones included; all of it when n_tokens is 0.
  const size_t wanted = spec.n_tokens == 0 ? SIZE_MAX : skip + size_t(spec.n_tokens) - before;

  std::vector<MappedFile> inputs;
  uint64_t bytes = 0;
  for (const fs::path& path : from_ids ? std::vector<fs::path>{spec.ids} : spec.files) {
    inputs.emplace_back(path);
    bytes += inputs.back().text().size();
    if (bytes > kMaxCorpusBytes)
      fail_input("{}: the texts are too large: {} bytes, allowed: {}", path.string(), bytes, kMaxCorpusBytes);
    corpus.description += (corpus.description.empty() ? "" : ", ") + path.filename().string();
  }

  std::vector<int32_t> found;
  Sha256 hash;
  std::optional<Tokenizer> tokenizer;
  for (const MappedFile& file : inputs) {
    const std::string name = file.path().string();
    if (!from_ids) check_utf8(file);
    hash.update(file.text());
    if (from_ids) {
      found = parse_ids(file.text(), name, wanted, vocab);
    } else if (found.size() < wanted) {
      if (!tokenizer) tokenizer.emplace(open_tokenizer(model));
      for (const int32_t id : tokenizer->encode(file.text(), wanted - found.size())) {
        if (id >= vocab)
          fail_input("{}: the tokenizer gives a token the model does not have: {}, allowed: 0..{}", name, id,
                     vocab - 1);
        found.push_back(id);
      }
    }
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
