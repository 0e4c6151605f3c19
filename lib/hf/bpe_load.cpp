#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/bpe.h"
#include "hf/byte_level.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// Refuses what would change the ids and is not done here.
void check_options(const Json& json, const std::string& where) {
  if (find_member(json, "type")) {
    const std::string type = get_type(json, where);
    if (type != "BPE") fail_input("{}: the type is not supported: {}, allowed: BPE", where, type);
  }
  if (const Json* dropout = find_member(json, "dropout");
      dropout && !(dropout->is_number() && dropout->get<double>() == 0))
    fail_input("{}: dropout is not supported: {}, allowed: null", where, dropout->dump());
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (find_member(json, key) && !get_string(json, key, where).empty())
      fail_input("{}: {} is not supported: \"{}\", allowed: null", where, key, get_string(json, key, where));
  if (get_bool(json, "byte_fallback", where, false))
    fail_input("{}: byte_fallback is not supported: true, allowed: false", where);
}

}  // namespace

Bpe::Bpe(const Json& json, const std::string& where, bool byte_level) : byte_level_(byte_level) {
  if (!json.is_object()) fail_input("{}: not an object: {}", where, json.type_name());
  check_options(json, where);
  ignore_merges_ = get_bool(json, "ignore_merges", where, false);
  fuse_unknown_ = get_bool(json, "fuse_unk", where, false);
  read_vocab(get_member(json, "vocab", where), where);
  read_merges(get_member(json, "merges", where), where);
  byte_ids_.fill(-1);
  for (int b = 0; b < 256; ++b) {
    std::string token;
    append_utf8(token, byte_to_char(static_cast<unsigned char>(b)));
    byte_ids_[size_t(b)] = id_of(token);
  }
  if (find_member(json, "unk_token")) {
    const std::string token = get_string(json, "unk_token", where);
    unknown_ = id_of(token);
    if (unknown_ < 0) fail_input("{}: unk_token is not in the vocabulary: {}", where, token);
  }
}

void Bpe::read_vocab(const Json& vocab, const std::string& where) {
  if (!vocab.is_object()) fail_input("{}: \"vocab\" is not an object: {}", where, vocab.type_name());
  if (vocab.empty()) fail_input("{}: \"vocab\" is empty", where);
  size_t last = 0;
  for (auto it = vocab.begin(); it != vocab.end(); ++it) {
    const int64_t id = non_negative(it.value());
    if (id < 0 || id > kMaxTokenId)
      fail_input("{}: the id of token \"{}\" is out of range: {}, allowed: 0..{}", where, it.key(),
                 it.value().dump(), kMaxTokenId);
    last = std::max(last, size_t(id));
  }
  token_of_.resize(last + 1);
  id_of_.reserve(vocab.size());
  for (auto it = vocab.begin(); it != vocab.end(); ++it) {
    const auto id = it.value().get<int32_t>();
    std::optional<std::string>& token = token_of_[size_t(id)];
    if (token) fail_input("{}: two tokens have the id {}: \"{}\" and \"{}\"", where, id, *token, it.key());
    token = it.key();
    id_of_.emplace(*token, id);
    longest_token_ = std::max(longest_token_, token->size());
  }
}

void Bpe::read_merges(const Json& merges, const std::string& where) {
  if (!merges.is_array()) fail_input("{}: \"merges\" is not an array: {}", where, merges.type_name());
  merges_ = MergeTable(merges.size());
  uint32_t rank = 0;
  std::string joined;
  for (const Json& merge : merges) {
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const size_t space = text.find(' ');
      if (space == text.npos || text.find(' ', space + 1) != text.npos)
        fail_input("{}: merge {} is not two tokens with a space between: \"{}\"", where, rank, text);
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else {
      fail_input("{}: merge {} is neither \"a b\" nor [\"a\", \"b\"]: {}", where, rank, merge.dump());
    }
    joined.assign(left).append(right);
    const auto id = [&](std::string_view token) {
      const int32_t found = id_of(token);
      if (found < 0)
        fail_input("{}: merge {} names a token that is not in the vocabulary: \"{}\"", where, rank, token);
      return found;
    };
    merges_.insert({id(left), id(right), rank, id(joined)});
    ++rank;
  }
}

}  // namespace blockgtq
