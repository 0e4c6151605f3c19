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
  scratch.token.clear();
  if (alphabet_.bytes) {
    append_byte_level(scratch.token, word);
  } else if (!alphabet_.space.empty()) {
    for (const char c : word) {
      if (c == ' ')
        scratch.token += alphabet_.space;
      else
        scratch.token += c;
    }
  } else {
    return id_of(word);
  }
  return id_of(scratch.token);
}

void Bpe::encode(std::string_view word, bool is_part, Scratch& scratch, std::vector<int32_t>& ids) const {
  WordCache& cache = is_part ? scratch.parts : scratch.words;
  const std::span<const int32_t> known = cache.find(word);
  if (known.data()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  const size_t first = ids.size();
  const int32_t whole = ignore_merges_ && !is_part ? whole_word(word, scratch) : -1;
  if (whole >= 0) {
    ids.push_back(whole);
  } else {
    add_symbols(word, scratch);
    merge(scratch);
    for (const Scratch::Symbol& s : scratch.symbols)
      if (s.id >= 0) ids.push_back(s.id);
  }
  cache.insert(word, std::span(ids).subspan(first));
}

/// The id of the symbol at an offset, and its length in bytes; -1 where it has no token.
int32_t Bpe::symbol_at(std::string_view word, size_t at, size_t& length) const {
  const auto byte = static_cast<unsigned char>(word[at]);
  length = 1;
  if (alphabet_.bytes || byte < 0x80) return symbol_ids_[byte];
  length = size_t(decode_utf8(word.data() + at).length);
  return id_of(word.substr(at, length));
}

size_t Bpe::part_end(std::string_view word, size_t begin) const {
  if (!can_be_cut_ || word.size() <= longest_token_) return word.size();
  int32_t before = -1;
  for (size_t i = begin, length; i < word.size(); i += length) {
    const int32_t id = symbol_at(word, i, length);
    if (i > begin && before >= 0 && id >= 0 && !joints_.find(before, id)) return i;
    before = id;
  }
  return word.size();
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
  // An unknown symbol waits until the next symbol is known or, unless unknown symbols are fused, unknown as
  // well. A symbol that falls back to bytes is neither, so it comes before the waiting one, as in the
  // library.
  bool unknown_waits = false;
  for (size_t i = 0, length; i < word.size(); i += length) {
    const int32_t id = symbol_at(word, i, length);
    if (id >= 0) {
      if (unknown_waits) add(unknown_);
      unknown_waits = false;
      add(id);
      continue;
    }
    std::string& symbol = scratch.token;  // as tokens spell it
    symbol.clear();
    if (alphabet_.bytes)
      append_byte_level(symbol, word.substr(i, 1));
    else if (word[i] == ' ' && !alphabet_.space.empty())
      symbol = alphabet_.space;
    else
      symbol = word.substr(i, length);
    const auto fallback = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
    if (std::all_of(symbol.begin(), symbol.end(), [&](char byte) { return fallback(byte) >= 0; })) {
      for (const char byte : symbol) add(fallback(byte));
    } else if (unknown_ >= 0) {
      if (unknown_waits && !fuse_unknown_) add(unknown_);
      unknown_waits = true;
    }
  }
  if (unknown_waits) add(unknown_);
}

/// Merges the pair of the lowest rank, of several the leftmost, until none is left. O(n log n).
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
    if (!m || m->rank != uint32_t(top >> 32)) continue;  // the pair at this place has changed

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
