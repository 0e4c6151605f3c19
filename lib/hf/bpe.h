#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "hf/merge_table.h"
#include "hf/word_cache.h"

namespace blockgtq {

inline constexpr int32_t kMaxTokenId = 1 << 22;

/// The "model" of a tokenizer.json: byte-pair encoding of one word at a time.
class Bpe {
 public:
  /// byte_level: words are bytes, tokens are written in the alphabet of byte_level.h. Otherwise a symbol is a
  /// character.
  Bpe(const Json& json, const std::string& where, bool byte_level);

  /// What encoding one word after the other needs; one per thread.
  struct Scratch {
    struct Symbol {
      int32_t id;          // -1: merged into the one before
      int32_t prev, next;  // -1: none
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // rank << 32 | position, a heap with the smallest on top
    std::string token;
    WordCache cache;
  };

  /// Appends the ids of a word.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  Bpe(const Bpe&) = delete;  // id_of_ looks into token_of_

  size_t size() const { return id_of_.size(); }  // number of tokens
  int32_t last_id() const { return int32_t(token_of_.size()) - 1; }
  int32_t id_of(std::string_view token) const;    // -1 when absent
  const std::string* token_of(int32_t id) const;  // null when absent

 private:
  void read_vocab(const Json& vocab, const std::string& where);
  void read_merges(const Json& merges, const std::string& where);
  void add_symbols(std::string_view word, Scratch& scratch) const;
  void merge(Scratch& scratch) const;
  int32_t whole_word(std::string_view word, Scratch& scratch) const;

  bool byte_level_;
  bool ignore_merges_ = false, fuse_unknown_ = false;
  int32_t unknown_ = -1;  // id; -1: an unknown symbol is left out
  size_t longest_token_ = 0;
  std::unordered_map<std::string_view, int32_t> id_of_;
  std::vector<std::optional<std::string>> token_of_;  // (last_id + 1)
  std::array<int32_t, 256> byte_ids_;                 // -1 where the byte has no token
  MergeTable merges_;
};

}  // namespace blockgtq
