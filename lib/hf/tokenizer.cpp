#include "hf/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "hf/added_tokens.h"
#include "hf/bpe.h"
#include "hf/byte_level.h"
#include "hf/decoder.h"
#include "hf/encoder.h"
#include "hf/normalizer.h"
#include "hf/pretokenizer.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// "a, b, c and 7 more"
std::string listed(const std::vector<std::string>& items, size_t most) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), most); ++i) text += (i ? ", " : "") + items[i];
  return items.size() > most ? fmt::format("{} and {} more", text, items.size() - most) : text;
}

/// The properties of these tokens that decide about ids, as text.
std::string text_of(const AddedTokens& added) {
  std::string text;
  added.for_each([&](int32_t id, const AddedToken& t) {
    text += fmt::format("{} {} {} {} {} {}\n", id, t.single_word, t.lstrip, t.rstrip, t.normalized,
                        sha256_hex(t.content));
  });
  return text;
}

const Json& checked_root(const Json& json, const std::string& name) {
  if (!json.is_object())
    fail_input("{}: not a tokenizer: a JSON {}, expected an object", name, json.type_name());
  if (find_member(json, "version")) {
    const std::string version = get_string(json, "version", name);
    if (version != "1.0") fail_input("{}: the version is not supported: {}, allowed: 1.0", name, version);
  }
  return json;
}

}  // namespace

struct Tokenizer::State {
  std::string sha256;
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  Bpe model;
  AddedTokens added;
  Decoder decoder;
  std::vector<std::string> warnings;

  State(const Json& json, const std::string& name, const std::vector<ExtraToken>& extra)
      : normalizer(find_member(json, "normalizer"), name + ": normalizer"),
        pretokenizer(find_member(json, "pre_tokenizer"), name + ": pre_tokenizer"),
        model(get_member(json, "model", name), name + ": model", pretokenizer.alphabet()),
        added(find_member(json, "added_tokens"), name + ": added_tokens", extra, model, normalizer),
        decoder(find_member(json, "decoder"), name + ": decoder") {
    if (!added.conflicts().empty())
      warnings.push_back(
          fmt::format("added tokens with another id in other files (transformers takes them so): {}",
                      listed(added.conflicts(), 3)));
  }
};

Tokenizer::Tokenizer(std::string_view json, const std::string& name, const std::vector<ExtraToken>& extra) {
  if (json.size() > kMaxTokenizerBytes)
    fail_input("{}: the file is too large: {} bytes, allowed: {}", name, json.size(), kMaxTokenizerBytes);
  const Json root = parse_json(json, name);
  state_ = std::make_unique<State>(checked_root(root, name), name, extra);
  state_->sha256 = sha256_hex(json);
  if (state_->added.changed_by_extra())
    state_->sha256 = sha256_hex(state_->sha256 + "\n" + text_of(state_->added));
}

Tokenizer::Tokenizer(std::string_view json, const std::string& name)
    : Tokenizer(json, name, std::vector<ExtraToken>()) {}

Tokenizer::Tokenizer(const fs::path& tokenizer_json)
    : Tokenizer(MappedFile(tokenizer_json).text(), tokenizer_json.string()) {}

Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, size_t max_tokens) const {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid < text.size())
    fail_input("the text is not UTF-8: byte 0x{:02X} at offset {}", static_cast<unsigned char>(text[invalid]),
               invalid);
  Encoder encoder(state_->added, state_->normalizer, state_->pretokenizer, state_->model, max_tokens);
  return encoder.encode(text);
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  std::vector<std::string> tokens;
  for (const int32_t id : ids) {
    const AddedToken* added = state_->added.find(id);
    const std::string* token = added ? &added->content : state_->model.token_of(id);
    if (!token) continue;  // an embedding without a token
    if (!state_->decoder.is_byte_level())
      tokens.push_back(*token);
    else if (added)
      text += *token;
    else
      append_bytes(text, *token);
  }
  return state_->decoder.is_byte_level() ? text : state_->decoder.decode(std::move(tokens));
}

int32_t Tokenizer::vocab_size() const {
  return std::max(state_->model.last_id(), state_->added.last_id()) + 1;
}

int32_t Tokenizer::id_of(const std::string& token) const {
  const int32_t added = state_->added.id_of(token);
  return added >= 0 ? added : state_->model.id_of(token);
}

const std::string& Tokenizer::sha256() const {
  return state_->sha256;
}

const std::vector<std::string>& Tokenizer::warnings() const {
  return state_->warnings;
}

}  // namespace blockgtq
