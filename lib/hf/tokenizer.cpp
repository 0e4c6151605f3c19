#include "hf/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "hf/added_tokens.h"
#include "hf/bpe.h"
#include "hf/byte_level.h"
#include "hf/encoder.h"
#include "hf/normalizer.h"
#include "hf/pretokenizer.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

enum class DecoderKind { none, byte_level };

DecoderKind read_decoder(const Json* json, const std::string& where) {
  if (!json) return DecoderKind::none;
  const std::string type = get_type(*json, where);
  if (type != "ByteLevel")
    fail_input("{}: the type is not supported: {}, allowed: ByteLevel, null", where, type);
  return DecoderKind::byte_level;
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
  DecoderKind decoder;

  State(const Json& json, const std::string& name)
      : normalizer(find_member(json, "normalizer"), name + ": normalizer"),
        pretokenizer(find_member(json, "pre_tokenizer"), name + ": pre_tokenizer"),
        model(get_member(json, "model", name), name + ": model", pretokenizer.byte_level()),
        added(find_member(json, "added_tokens"), name + ": added_tokens", model, normalizer),
        decoder(read_decoder(find_member(json, "decoder"), name + ": decoder")) {}
};

Tokenizer::Tokenizer(std::string_view json, const std::string& name) {
  if (json.size() > kMaxTokenizerBytes)
    fail_input("{}: the file is too large: {} bytes, allowed: {}", name, json.size(), kMaxTokenizerBytes);
  const Json root = parse_json(json, name);
  state_ = std::make_unique<State>(checked_root(root, name), name);
  state_->sha256 = sha256_hex(json);
}

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
  bool first = true;
  for (const int32_t id : ids) {
    const AddedToken* added = state_->added.find(id);
    const std::string* token = added ? &added->content : state_->model.token_of(id);
    if (!token) continue;  // an embedding without a token
    if (state_->decoder == DecoderKind::none) {
      if (!first) text += ' ';
      text += *token;
    } else if (added) {
      text += *token;
    } else {
      append_bytes(text, *token);
    }
    first = false;
  }
  return text;
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

}  // namespace blockgtq
