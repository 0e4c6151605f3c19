#include "hf/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/tokenizer_json.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

/// Where the white space before `end` starts, not before `least`.
size_t spaces_start_before(std::string_view text, size_t end, size_t least) {
  while (end > least) {
    const Utf8Char c = decode_utf8_before(text, end);
    if (!is_space(c.value)) break;
    end -= size_t(c.length);
  }
  return end;
}

size_t spaces_end_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Char c = decode_utf8(text.data() + begin);
    if (!is_space(c.value)) break;
    begin += size_t(c.length);
  }
  return begin;
}

bool is_single_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word(decode_utf8_before(text, begin).value)) return false;
  return end == text.size() || !is_word(decode_utf8(text.data() + end).value);
}

AddedToken read_token(const Json& json, const std::string& where) {
  AddedToken t;
  t.content = get_string(json, "content", where);
  t.single_word = get_bool(json, "single_word", where);
  t.lstrip = get_bool(json, "lstrip", where);
  t.rstrip = get_bool(json, "rstrip", where);
  t.normalized = get_bool(json, "normalized", where);
  t.special = get_bool(json, "special", where);
  if (t.content.size() > kMaxAddedTokenBytes)
    fail_input("{}: a token is too long: {} bytes, allowed: {}", where, t.content.size(),
               kMaxAddedTokenBytes);
  return t;
}

}  // namespace

TokenFinder::TokenFinder(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (const Entry& e : entries_) starts_[static_cast<unsigned char>(e.text[0])] = true;
}

/// The entries that share the first n bytes with the text lie side by side: with every byte the range
/// narrows.
const TokenFinder::Entry* TokenFinder::longest_at(std::string_view text, size_t at) const {
  const Entry* longest = nullptr;
  auto first = entries_.begin(), last = entries_.end();
  for (size_t n = 0; first != last; ++n) {
    if (first->text.size() == n) {
      longest = &*first;
      if (++first == last) break;
    }
    if (at + n == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[at + n]);
    const auto byte_of = [n](const Entry& e) { return static_cast<unsigned char>(e.text[n]); };
    first =
        std::lower_bound(first, last, byte, [&](const Entry& e, unsigned char b) { return byte_of(e) < b; });
    last =
        std::upper_bound(first, last, byte, [&](unsigned char b, const Entry& e) { return b < byte_of(e); });
  }
  return longest;
}

bool TokenFinder::split(std::string_view text, const std::function<bool(const Span&)>& emit) const {
  size_t done = 0;  // text before has been emitted
  for (size_t at = 0; at < text.size() && !entries_.empty();) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const Entry* found = longest_at(text, at);
    if (!found) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + found->text.size();
    at = end;
    if (found->token->single_word && !is_single_word(text, begin, end)) continue;
    // A token behind one with rstrip may lie in the space that one took; it is a token all the same.
    if (found->token->lstrip) begin = std::max(spaces_start_before(text, begin, done), done);
    if (found->token->rstrip) end = spaces_end_after(text, end);
    if (done < begin && !emit({done, begin, -1})) return false;
    if (begin < end && !emit({begin, end, found->id})) return false;
    done = end;
  }
  return done >= text.size() || emit({done, text.size(), -1});
}

AddedTokens::AddedTokens(const Json* json, const std::string& where, const Bpe& model,
                         const Normalizer& normalizer) {
  if (!json) return;
  if (!json->is_array()) fail_input("{}: not an array: {}", where, json->type_name());
  int64_t next = int64_t(model.size());  // ids of tokens that are new, in order
  for (const Json& item : *json) {
    AddedToken token = read_token(item, where);
    if (token.content.empty()) continue;
    int64_t id = id_of(token.content);
    if (id < 0) id = model.id_of(token.content);
    if (id < 0) id = next++;
    // The library goes by its own count and only warns; a model that was trained with the other ids would be
    // lost.
    const Json& written = get_member(item, "id", where);
    if (non_negative(written) != id)
      fail_input("{}: the id of \"{}\" is not the one its place gives it: {}, expected: {}", where,
                 token.content, written.dump(), id);
    if (id > kMaxTokenId) fail_input("{}: too many tokens: id {}, allowed: 0..{}", where, id, kMaxTokenId);
    id_of_[token.content] = int32_t(id);
    by_id_[int32_t(id)] = std::move(token);
  }

  std::vector<TokenFinder::Entry> raw, normalized;
  for (const auto& [id, token] : by_id_) {
    std::string text = token.content, changed;
    if (token.normalized && normalizer.apply(text, changed)) text = changed;
    (token.normalized ? normalized : raw).push_back({text, id, &token});
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
