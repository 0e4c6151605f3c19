#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "hf/added_tokens.h"
#include "hf/bpe.h"
#include "hf/normalizer.h"
#include "hf/pretokenizer.h"

namespace blockgtq {

/// Turns one text into ids. Added tokens are taken out, the rest is normalized, added tokens are taken out
/// again, and the rest is cut into words. Words are collected and then encoded on all threads, each on its
/// own. So neither the number of threads nor the end of a batch changes the ids, and the first n ids are
/// known without looking at the rest of the text.
class Encoder {
 public:
  Encoder(const AddedTokens& added, const Normalizer& normalizer, const Pretokenizer& pretokenizer,
          const Bpe& model, size_t max_tokens);

  std::vector<int32_t> encode(std::string_view text);  // well-formed UTF-8; once

 private:
  struct Word {
    Piece piece;
    int32_t id = -1;  // an added token in place of `piece`
    bool is_part = false;
  };
  // These return false when there are enough tokens. at_start: the segment begins where the text does.
  bool add_segment(std::string_view segment, bool at_start);
  bool add_normalized(std::string_view segment, bool at_start);
  bool add_piece(const Piece& piece);
  bool add(const Word& word);
  bool flush();
  void encode_words(size_t begin, size_t end, Bpe::Scratch& scratch, std::vector<int32_t>& ids) const;

  const AddedTokens& added_;
  const Normalizer& normalizer_;
  const Pretokenizer& pretokenizer_;
  const Bpe& model_;
  size_t max_tokens_;
  size_t batch_;
  Pretokenizer::Scratch scratch_;
  std::vector<Bpe::Scratch> lanes_;     // one per thread
  std::deque<std::string> normalized_;  // texts that words_ point into
  size_t normalized_bytes_ = 0;
  std::vector<Word> words_;
  std::vector<int32_t> ids_;
};

}  // namespace blockgtq
