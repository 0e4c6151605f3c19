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

/// How a tokenizer's tokens spell a word.
struct Alphabet {
  bool bytes = false;  // in the alphabet of byte_level.h; otherwise a symbol is a character
  std::string space;   // the character that stands for a space; empty: the space itself
};

/// The "model" of a tokenizer.json: byte-pair encoding of one word at a time.
class Bpe {
 public:
  Bpe(const Json& json, const std::string& where, Alphabet alphabet);

  /// Working memory for encoding words one after the other; one per thread.
  struct Scratch {
    struct Symbol {
      int32_t id;          // -1: merged into the symbol before
      int32_t prev, next;  // -1: none
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // rank << 32 | position, a heap with the smallest on top
    std::string token;
    WordCache words, parts;
  };

  /// Appends the ids of a word, or of a part that part_end() cut.
  void encode(std::string_view word, bool is_part, Scratch& scratch, std::vector<int32_t>& ids) const;

  /// Where a long word, which may be a whole text, can be cut because no merge joins the symbols on both
  /// sides. The parts that end at part_end(word, 0), and so on, have the ids of the word. Returns word.size()
  /// for the last part.
  size_t part_end(std::string_view word, size_t begin) const;

  Bpe(const Bpe&) = delete;  // id_of_ looks into token_of_

  size_t size() const { return id_of_.size(); }  // number of tokens
  int32_t last_id() const { return int32_t(token_of_.size()) - 1; }
  int32_t id_of(std::string_view token) const;    // -1 when absent
  const std::string* token_of(int32_t id) const;  // null when absent

 private:
  void read_vocab(const Json& vocab, const std::string& where);
  void read_merges(const Json& merges, const std::string& where);
  void read_byte_tokens(bool byte_fallback);
  void collect_joints(size_t n_merges);
  int32_t symbol_at(std::string_view word, size_t at, size_t& length) const;
  void add_symbols(std::string_view word, Scratch& scratch) const;
  void merge(Scratch& scratch) const;
  int32_t whole_word(std::string_view word, Scratch& scratch) const;

  Alphabet alphabet_;
  bool ignore_merges_ = false, fuse_unknown_ = false;
  int32_t unknown_ = -1;  // id; -1: an unknown symbol is left out
  size_t longest_token_ = 0;
  std::unordered_map<std::string_view, int32_t> id_of_;
  std::vector<std::optional<std::string>> token_of_;  // (last_id + 1)
  // Ids of the 256 bytes, -1 for a byte without a token. symbol_ids_: of the byte's character in an alphabet
  // of
  // bytes, or of the character itself below 0x80. fallback_ids_: of "<0x41>" and the like, where the model
  // falls
  // back to bytes.
  std::array<int32_t, 256> symbol_ids_, fallback_ids_;
  MergeTable merges_;
  MergeTable joints_;        // pairs of symbols at the joint of some merge
  bool can_be_cut_ = false;  // whether joints_ is complete
};

}  // namespace blockgtq
