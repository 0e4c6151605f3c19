#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "hf/bpe.h"
#include "hf/pattern.h"

namespace blockgtq {

/// A word for the model, as a part of the text. space_before: a space that the text does not have stands
/// before it.
struct Piece {
  std::string_view text;
  bool space_before = false;
};

/// The "pre_tokenizer" of a tokenizer.json, which cuts a segment into words. ByteLevel, Digits, Metaspace,
/// Punctuation, Sequence, Split, Whitespace and WhitespaceSplit are read; Exit::input names any other.
class Pretokenizer {
 public:
  /// `json` may be null: then every segment is one word of characters.
  Pretokenizer(const Json* json, const std::string& where);
  ~Pretokenizer();

  /// The alphabet in which the model reads the words.
  Alphabet alphabet() const;

  /// Working memory for cutting; one per thread and text.
  class Scratch {
   public:
    explicit Scratch(const Pretokenizer& pretokenizer);

   private:
    friend class Pretokenizer;
    std::vector<std::optional<Matches>> matches_;  // per stage
  };

  /// Calls emit for every word of a segment in order; emit returns false to stop. Returns false when stopped.
  /// at_start: the segment begins where the text does.
  using Emit = std::function<bool(const Piece&)>;
  bool split(std::string_view segment, bool at_start, Scratch& scratch, const Emit& emit) const;

 private:
  struct Stage;
  struct Cut;
  void add(const Json& json, const std::string& where);
  bool run(size_t index, size_t begin, size_t end, const Cut& cut) const;
  bool run_words(size_t index, size_t begin, size_t end, const Cut& cut) const;
  bool run_byte_level(size_t index, size_t begin, size_t end, const Cut& cut) const;
  bool run_metaspace(size_t index, size_t begin, size_t end, const Cut& cut) const;
  bool run_in_alphabet(size_t index, const Piece& piece, const Cut& cut) const;

  std::vector<Stage> stages_;
};

}  // namespace blockgtq
