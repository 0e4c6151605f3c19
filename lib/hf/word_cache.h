#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

/// Remembers the ids of short words. Words that do not fit any more are not remembered.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 64;
  static constexpr size_t kMaxWords = 1 << 17;

  /// The ids of a word; data() is null when it is not known.
  std::span<const int32_t> find(std::string_view word) const;
  void insert(std::string_view word, std::span<const int32_t> ids);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t word_at = 0, ids_at = 0;
    uint16_t word_bytes = 0;  // 0: an empty slot
    uint16_t n_ids = 0;
  };
  size_t slot(std::string_view word, uint64_t hash) const;
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t n_words_ = 0;
  std::string words_;
  std::vector<int32_t> ids_;
};

}  // namespace blockgtq
