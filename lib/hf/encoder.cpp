#include "hf/encoder.h"

#include <algorithm>

#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr size_t kFirstBatch = 4096,
                 kLastBatch = 1 << 19;  // words; batches begin small, because few tokens may be wanted
constexpr size_t kWordsPerLane = 2048;  // fewer words are not worth a thread
constexpr size_t kLongPieceBytes = 256;
constexpr size_t kMaxNormalizedBytes = 4 << 20;

}  // namespace

Encoder::Encoder(const AddedTokens& added, const Normalizer& normalizer, const Pretokenizer& pretokenizer,
                 const Bpe& model, size_t max_tokens)
    : added_(added),
      normalizer_(normalizer),
      pretokenizer_(pretokenizer),
      model_(model),
      max_tokens_(max_tokens),
      batch_(std::min(kFirstBatch, std::max<size_t>(max_tokens, 1))),
      scratch_(pretokenizer),
      lanes_(1) {}

std::vector<int32_t> Encoder::encode(std::string_view text) {
  const bool all = added_.raw().split(text, [&](const Span& span) {
    if (span.id >= 0) return add({{}, span.id});
    return add_segment(text.substr(span.begin, span.end - span.begin), span.begin == 0);
  });
  if (all) flush();
  if (ids_.size() > max_tokens_) ids_.resize(max_tokens_);
  return std::move(ids_);
}

bool Encoder::add_segment(std::string_view segment, bool at_start) {
  std::string changed;
  if (!normalizer_.apply(segment, changed)) return add_normalized(segment, at_start);
  normalized_bytes_ += changed.size();
  normalized_.push_back(std::move(changed));
  if (!add_normalized(normalized_.back(), at_start)) return false;
  if (normalized_bytes_ < kMaxNormalizedBytes) return true;
  const bool go_on = flush();
  normalized_.clear();
  normalized_bytes_ = 0;
  return go_on;
}

bool Encoder::add_normalized(std::string_view segment, bool at_start) {
  return added_.normalized().split(segment, [&](const Span& span) {
    if (span.id >= 0) return add({{}, span.id});
    return pretokenizer_.split(segment.substr(span.begin, span.end - span.begin), at_start && span.begin == 0,
                               scratch_, [&](const Piece& piece) { return add_piece(piece); });
  });
}

/// Cuts a long piece into parts: without a pre-tokenizer it is a whole text.
bool Encoder::add_piece(const Piece& piece) {
  if (piece.text.size() <= kLongPieceBytes) return add({piece, -1, false});
  for (size_t begin = 0, end; begin < piece.text.size(); begin = end) {
    end = model_.part_end(piece.text, begin);
    const bool is_part = end - begin < piece.text.size();
    if (!add({{piece.text.substr(begin, end - begin), begin == 0 && piece.space_before}, -1, is_part}))
      return false;
  }
  return true;
}

bool Encoder::add(const Word& word) {
  words_.push_back(word);
  if (words_.size() < batch_) return true;
  batch_ = std::min(2 * batch_, kLastBatch);
  return flush();
}

bool Encoder::flush() {
  const size_t n = words_.size();
  const size_t n_lanes = std::clamp<size_t>(n / kWordsPerLane, 1, size_t(threads()));
  if (lanes_.size() < n_lanes) lanes_.resize(n_lanes);
  if (n_lanes == 1) {
    encode_words(0, n, lanes_[0], ids_);
  } else {
    std::vector<std::vector<int32_t>> parts(n_lanes);
    parallel_for(n_lanes, [&](size_t lane) {
      encode_words(n * lane / n_lanes, n * (lane + 1) / n_lanes, lanes_[lane], parts[lane]);
    });
    for (const std::vector<int32_t>& part : parts) ids_.insert(ids_.end(), part.begin(), part.end());
  }
  words_.clear();
  return ids_.size() < max_tokens_;
}

void Encoder::encode_words(size_t begin, size_t end, Bpe::Scratch& scratch, std::vector<int32_t>& ids) const {
  std::string spaced;
  for (size_t i = begin; i < end; ++i) {
    const Word& word = words_[i];
    if (word.id >= 0) {
      ids.push_back(word.id);
    } else if (word.piece.space_before) {
      spaced.assign(" ").append(word.piece.text);
      model_.encode(spaced, word.is_part, scratch, ids);
    } else {
      model_.encode(word.piece.text, word.is_part, scratch, ids);
    }
  }
}

}  // namespace blockgtq
