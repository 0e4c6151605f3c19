#include "hf/added_tokens.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/tokenizer_json.h"

namespace blockgtq {

namespace {

AddedToken read_token(const Json& json, const std::string& where) {
  AddedToken t;
  t.content = get_string(json, "content", where);
  t.single_word = get_bool(json, "single_word", where);
  t.lstrip = get_bool(json, "lstrip", where);
  t.rstrip = get_bool(json, "rstrip", where);
  t.normalized = get_bool(json, "normalized", where);
  t.special = get_bool(json, "special", where);
  return t;
}

}  // namespace

AddedTokens::AddedTokens(const Json* json, const std::string& where, const std::vector<ExtraToken>& extra,
                         const Bpe& model, const Normalizer& normalizer) {
  if (json && !json->is_array()) fail_input("{}: not an array: {}", where, json->type_name());
  for (size_t i = 0; json && i < json->size(); ++i) {
    const AddedToken token = read_token((*json)[i], where);
    if (token.content.empty()) continue;
    const int32_t id = add(token, where, model);
    // The library uses its own count and only warns. A model that was trained with the other ids would not
    // work.
    const Json& written = get_member((*json)[i], "id", where);
    if (non_negative(written) != id)
      fail_input("{}: the id of \"{}\" is not the one its place gives it: {}, expected: {}", where,
                 token.content, written.dump(), id);
  }
  const std::map<int32_t, AddedToken> own = by_id_;
  for (const ExtraToken& e : extra)
    if (!e.only_new_id || e.id > kMaxTokenId || !own.count(int32_t(e.id))) add_extra(e, where, model);
  changed_by_extra_ = own != by_id_;
  make_finders(where, normalizer);
}

/// As the library: a token that exists keeps its id and gets new options.
int32_t AddedTokens::add(const AddedToken& token, const std::string& where, const Bpe& model) {
  if (token.content.size() > kMaxAddedTokenBytes)
    fail_input("{}: a token is too long: {} bytes, allowed: {}", where, token.content.size(),
               kMaxAddedTokenBytes);
  bytes_ += token.content.size();
  if (bytes_ > kMaxAddedTokensBytes)
    fail_input("{}: the tokens are too long: {} bytes, allowed: {}", where, bytes_, kMaxAddedTokensBytes);
  int64_t id = id_of(token.content);
  if (id < 0) id = model.id_of(token.content);
  if (id < 0) id = int64_t(model.size()) + n_new_++;
  if (id > kMaxTokenId) fail_input("{}: too many tokens: id {}, allowed: 0..{}", where, id, kMaxTokenId);
  id_of_[token.content] = int32_t(id);
  by_id_[int32_t(id)] = token;
  return int32_t(id);
}

void AddedTokens::add_extra(const ExtraToken& extra, const std::string& where, const Bpe& model) {
  if (extra.token.content.empty() || (extra.only_new && id_of(extra.token.content) >= 0)) return;
  const int32_t id = add(extra.token, where, model);
  if (extra.id >= 0 && extra.id != id)
    conflicts_.push_back(fmt::format("\"{}\" is {} there, {} here", extra.token.content, extra.id, id));
}

void AddedTokens::make_finders(const std::string& where, const Normalizer& normalizer) {
  std::vector<TokenFinder::Entry> raw, normalized;
  for (const auto& [id, token] : by_id_) {
    std::string text = token.content, changed;
    if (token.normalized && normalizer.apply(text, changed)) text = changed;
    if (!text.empty()) (token.normalized ? normalized : raw).push_back({text, id, &token});
  }
  std::map<std::string, int32_t> texts;
  for (const TokenFinder::Entry& e : normalized)
    if (!texts.emplace(e.text, e.id).second)
      fail_input("{}: two tokens are the same once normalized: {} and {}", where, texts[e.text], e.id);
  raw_ = TokenFinder(std::move(raw));
  normalized_ = TokenFinder(std::move(normalized));
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &it->second;
}

int32_t AddedTokens::id_of(const std::string& content) const {
  const auto it = id_of_.find(content);
  return it == id_of_.end() ? -1 : it->second;
}

}  // namespace blockgtq
