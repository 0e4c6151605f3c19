#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/bpe.h"
#include "hf/byte_level.h"
#include "hf/tokenizer_json.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// Exit::input for an option that would change the ids and is not supported.
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
}

}  // namespace

Bpe::Bpe(const Json& json, const std::string& where, Alphabet alphabet) : alphabet_(std::move(alphabet)) {
  if (!json.is_object()) fail_input("{}: not an object: {}", where, json.type_name());
  check_options(json, where);
  ignore_merges_ = get_bool(json, "ignore_merges", where, false);
  fuse_unknown_ = get_bool(json, "fuse_unk", where, false);
  read_vocab(get_member(json, "vocab", where), where);
  const Json& merges = get_member(json, "merges", where);
  read_merges(merges, where);
  read_byte_tokens(get_bool(json, "byte_fallback", where, false));
  if (find_member(json, "unk_token")) {
    const std::string token = get_string(json, "unk_token", where);
    unknown_ = id_of(token);
    if (unknown_ < 0) fail_input("{}: unk_token is not in the vocabulary: {}", where, token);
  }
  collect_joints(merges.size());
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

namespace {

/// The two tokens of a merge, "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> merged_tokens(const Json& merge, const std::string& where,
                                                            uint32_t rank) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos)
      fail_input("{}: merge {} is not two tokens with a space between: \"{}\"", where, rank, text);
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  fail_input("{}: merge {} is neither \"a b\" nor [\"a\", \"b\"]: {}", where, rank, merge.dump());
}

}  // namespace

void Bpe::read_merges(const Json& merges, const std::string& where) {
  if (!merges.is_array()) fail_input("{}: \"merges\" is not an array: {}", where, merges.type_name());
  merges_ = MergeTable(merges.size());
  uint32_t rank = 0;
  std::string joined;
  for (const Json& merge : merges) {
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = merged_tokens(merge, where, rank);
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

void Bpe::read_byte_tokens(bool byte_fallback) {
  fallback_ids_.fill(-1);
  symbol_ids_.fill(-1);
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<unsigned char>(b);
    std::string token;
    if (alphabet_.bytes) {
      append_utf8(token, byte_to_char(byte));
    } else if (b == ' ' && !alphabet_.space.empty()) {
      token = alphabet_.space;
    } else if (b < 0x80) {
      token = char(b);
    }
    symbol_ids_[byte] = id_of(token);
    if (byte_fallback) fallback_ids_[byte] = id_of(fmt::format("<0x{:02X}>", b));
  }
}

/// A token that merges make of characters begins with its first and ends with its last character. That holds
/// unless merges take something else as a symbol: a byte of the fallback, or the unknown token.
void Bpe::collect_joints(size_t n_merges) {
  joints_ = MergeTable(n_merges);
  can_be_cut_ = true;
  std::vector<bool> is_character(token_of_.size(), true);
  for (const int32_t id : fallback_ids_)
    if (id >= 0) is_character[size_t(id)] = false;
  if (unknown_ >= 0) is_character[size_t(unknown_)] = false;
  merges_.for_each([&](const MergeTable::Merge& merge) {
    if (!is_character[size_t(merge.left)] || !is_character[size_t(merge.right)]) can_be_cut_ = false;
    const std::string& left = *token_of_[size_t(merge.left)];
    const std::string& right = *token_of_[size_t(merge.right)];
    if (left.empty() || right.empty()) return;
    const size_t last_length = size_t(decode_utf8_before(left, left.size()).length);
    const int32_t last = id_of(std::string_view(left).substr(left.size() - last_length));
    const int32_t first = id_of(std::string_view(right).substr(0, size_t(decode_utf8(right.data()).length)));
    if (last >= 0 && first >= 0) joints_.insert({last, first, 0, 0});
  });
}

}  // namespace blockgtq
