#include "hf/word_cache.h"

#include <functional>

namespace blockgtq {

namespace {
constexpr size_t kFirstSlots = 1 << 10;
}

size_t WordCache::slot(std::string_view word, uint64_t hash) const {
  size_t i = size_t(hash) & (slots_.size() - 1);
  for (;; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& s = slots_[i];
    if (s.word_bytes == 0) return i;
    if (s.hash == hash && std::string_view(words_).substr(s.word_at, s.word_bytes) == word) return i;
  }
}

std::span<const int32_t> WordCache::find(std::string_view word) const {
  if (slots_.empty() || word.size() > kMaxWordBytes) return {};
  const Slot& s = slots_[slot(word, std::hash<std::string_view>{}(word))];
  if (s.word_bytes == 0) return {};
  return {ids_.data() + s.ids_at, s.n_ids};
}

void WordCache::insert(std::string_view word, std::span<const int32_t> ids) {
  if (word.empty() || word.size() > kMaxWordBytes || ids.empty() || n_words_ == kMaxWords) return;
  if (2 * n_words_ >= slots_.size()) grow();
  const uint64_t hash = std::hash<std::string_view>{}(word);
  slots_[slot(word, hash)] = {hash, uint32_t(words_.size()), uint32_t(ids_.size()), uint16_t(word.size()),
                              uint16_t(ids.size())};
  words_ += word;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++n_words_;
}

void WordCache::grow() {
  std::vector<Slot> old(slots_.empty() ? kFirstSlots : 2 * slots_.size());
  old.swap(slots_);
  for (const Slot& s : old)
    if (s.word_bytes > 0) slots_[slot(std::string_view(words_).substr(s.word_at, s.word_bytes), s.hash)] = s;
}

}  // namespace blockgtq
