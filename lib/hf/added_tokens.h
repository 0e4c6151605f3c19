#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hf/bpe.h"
#include "hf/normalizer.h"

namespace blockgtq {

inline constexpr size_t kMaxAddedTokenBytes = 4096;

/// One of the "added_tokens" of a tokenizer.json.
struct AddedToken {
  std::string content;
  bool single_word = false;             // not next to a word character
  bool lstrip = false, rstrip = false;  // takes the white space before, behind
  bool normalized = false;              // looked for in the normalized text, else in the text as it is
  bool special = false;
};

/// A part of a text: a token, or text between tokens (id -1).
struct Span {
  size_t begin, end;
  int32_t id;
};

/// Finds tokens of a set in a text: leftmost, of these the longest, then from its end on.
class TokenFinder {
 public:
  struct Entry {
    std::string text;  // what is looked for
    int32_t id;
    const AddedToken* token;
  };
  TokenFinder() = default;
  explicit TokenFinder(std::vector<Entry> entries);

  /// Calls emit for every part in order; emit returns false to stop. False when stopped.
  bool split(std::string_view text, const std::function<bool(const Span&)>& emit) const;

 private:
  const Entry* longest_at(std::string_view text, size_t at) const;

  std::vector<Entry> entries_;      // by text
  std::array<bool, 256> starts_{};  // some text starts with this byte
};

/// The added tokens of a tokenizer, with the ids the `tokenizers` library gives them.
class AddedTokens {
 public:
  AddedTokens(const Json* json, const std::string& where, const Bpe& model, const Normalizer& normalizer);

  const TokenFinder& raw() const { return raw_; }                // in the text as it is
  const TokenFinder& normalized() const { return normalized_; }  // in what the normalizer made of the rest
  const AddedToken* find(int32_t id) const;                      // null when absent
  int32_t id_of(const std::string& content) const;               // -1 when absent
  int32_t last_id() const { return by_id_.empty() ? -1 : by_id_.rbegin()->first; }

 private:
  std::map<int32_t, AddedToken> by_id_;
  std::map<std::string, int32_t> id_of_;
  TokenFinder raw_, normalized_;
};

}  // namespace blockgtq
