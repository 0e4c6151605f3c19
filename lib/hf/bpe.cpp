#include "hf/bpe.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/byte_level.h"
#include "hf/utf8.h"

namespace blockgtq {

int32_t Bpe::id_of(std::string_view token) const {
  const auto it = id_of_.find(token);
  return it == id_of_.end() ? -1 : it->second;
}

const std::string* Bpe::token_of(int32_t id) const {
  if (id < 0 || id > last_id() || !token_of_[size_t(id)]) return nullptr;
  return &*token_of_[size_t(id)];
}

int32_t Bpe::whole_word(std::string_view word, Scratch& scratch) const {
  if (word.size() > longest_token_) return -1;
  if (!byte_level_) return id_of(word);
  scratch.token.clear();
  append_byte_level(scratch.token, word);
  return id_of(scratch.token);
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  const std::span<const int32_t> known = scratch.cache.find(word);
  if (known.data()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  const size_t first = ids.size();
  const int32_t whole = ignore_merges_ ? whole_word(word, scratch) : -1;
  if (whole >= 0) {
    ids.push_back(whole);
  } else {
    add_symbols(word, scratch);
    merge(scratch);
    for (const Scratch::Symbol& s : scratch.symbols)
      if (s.id >= 0) ids.push_back(s.id);
  }
  scratch.cache.insert(word, std::span(ids).subspan(first));
}

void Bpe::add_symbols(std::string_view word, Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  check(word.size() < size_t(INT32_MAX), "a word of 2 GB");
  symbols.clear();
  const auto add = [&](int32_t id) {
    const int32_t at = int32_t(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({id, at - 1, -1});
  };
  // An unknown symbol is put down when the next one is known or, unless fused, unknown as well. Which comes
  // to the same as putting it down at once, as long as a run of them becomes one where they are fused.
  bool unknown_before = false;
  for (size_t i = 0; i < word.size();) {
    const size_t length = byte_level_ ? 1 : size_t(decode_utf8(word.data() + i).length);
    const int32_t id =
        byte_level_ ? byte_ids_[static_cast<unsigned char>(word[i])] : id_of(word.substr(i, length));
    i += length;
    if (id >= 0) {
      add(id);
    } else if (unknown_ >= 0 && !(unknown_before && fuse_unknown_)) {
      add(unknown_);
    }
    unknown_before = id < 0;
  }
}

/// Merges the pair of the lowest rank, the leftmost of these, until none is left: O(n log n).
void Bpe::merge(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  const auto pair_at = [&](int32_t at) -> const MergeTable::Merge* {
    const int32_t next = symbols[size_t(at)].next;
    return next < 0 ? nullptr : merges_.find(symbols[size_t(at)].id, symbols[size_t(next)].id);
  };
  const auto entry = [](const MergeTable::Merge& m, int32_t at) {
    return uint64_t(m.rank) << 32 | uint32_t(at);
  };

  queue.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const auto* m = pair_at(int32_t(i))) queue.push_back(entry(*m, int32_t(i)));
  std::make_heap(queue.begin(), queue.end(), std::greater<>());

  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const uint64_t top = queue.back();
    queue.pop_back();
    const int32_t at = int32_t(uint32_t(top));
    Scratch::Symbol& symbol = symbols[size_t(at)];
    if (symbol.id < 0) continue;
    const MergeTable::Merge* m = pair_at(at);
    if (!m || m->rank != uint32_t(top >> 32)) continue;  // the pair that was here has changed

    Scratch::Symbol& right = symbols[size_t(symbol.next)];
    symbol.id = m->result;
    symbol.next = right.next;
    right.id = -1;
    if (right.next >= 0) symbols[size_t(right.next)].prev = at;

    const auto push = [&](int32_t position) {
      if (position < 0) return;
      if (const auto* next = pair_at(position)) {
        queue.push_back(entry(*next, position));
        std::push_heap(queue.begin(), queue.end(), std::greater<>());
      }
    };
    push(symbol.prev);
    push(at);
  }
}

}  // namespace blockgtq
