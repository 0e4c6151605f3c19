#include "hf/token_finder.h"

#include <algorithm>

#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr size_t kBlockBytes = 64 << 10;

/// Where the white space before `end` begins, but not before `least`.
size_t spaces_start_before(std::string_view text, size_t end, size_t least) {
  while (end > least) {
    const Utf8Char c = decode_utf8_before(text, end);
    if (!is_space(c.value)) break;
    end -= size_t(c.length);
  }
  return end;
}

size_t spaces_end_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Char c = decode_utf8(text.data() + begin);
    if (!is_space(c.value)) break;
    begin += size_t(c.length);
  }
  return begin;
}

bool is_single_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word(decode_utf8_before(text, begin).value)) return false;
  return end == text.size() || !is_word(decode_utf8(text.data() + end).value);
}

}  // namespace

TokenFinder::TokenFinder(std::vector<Entry> entries) : entries_(std::move(entries)) {
  build();
  link();
}

/// Builds the trie of the reversed texts, level by level. A node is a range of sorted texts that agree so
/// far.
void TokenFinder::build() {
  std::vector<std::pair<std::string, int32_t>> texts;
  for (size_t e = 0; e < entries_.size(); ++e) {
    texts.emplace_back(std::string(entries_[e].text.rbegin(), entries_[e].text.rend()), int32_t(e));
    longest_ = std::max(longest_, entries_[e].text.size());
  }
  std::sort(texts.begin(), texts.end());
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, texts.size(), 0}};  // per node
  nodes_.resize(1);
  for (size_t n = 0; n < ranges.size(); ++n) {
    auto [i, end, depth] = ranges[n];
    if (i < end && texts[i].first.size() == depth) nodes_[n].entry = texts[i++].second;
    nodes_[n].children = uint32_t(nodes_.size());
    while (i < end) {
      const size_t first = i;
      const char byte = texts[i].first[depth];
      while (i < end && texts[i].first[depth] == byte) ++i;
      ranges.push_back({first, i, depth + 1});
      nodes_.emplace_back().byte = static_cast<unsigned char>(byte);
    }
    nodes_[n].n_children = uint16_t(nodes_.size() - nodes_[n].children);
  }
  for (uint32_t c = 0; c < nodes_[0].n_children; ++c) first_[nodes_[1 + c].byte] = 1 + c;
}

/// Sets `shorter`, and `entry` where only a shorter entry ends. It goes by depth, so that what a node needs
/// is set.
void TokenFinder::link() {
  for (size_t n = 1; n < nodes_.size(); ++n) {
    Node& node = nodes_[n];
    if (node.entry < 0) node.entry = nodes_[node.shorter].entry;
    for (uint32_t c = node.children; c < node.children + node.n_children; ++c) {
      uint32_t from = node.shorter;
      while (from != 0 && child(from, nodes_[c].byte) == 0) from = nodes_[from].shorter;
      nodes_[c].shorter = child(from, nodes_[c].byte);
    }
  }
}

uint32_t TokenFinder::child(uint32_t node, unsigned char byte) const {
  if (node == 0) return first_[byte];
  const auto first = nodes_.begin() + nodes_[node].children, last = first + nodes_[node].n_children;
  const auto it =
      std::lower_bound(first, last, byte, [](const Node& n, unsigned char b) { return n.byte < b; });
  return it == last || it->byte != byte ? 0 : uint32_t(it - nodes_.begin());
}

/// longest[i] = the longest entry that starts at begin + i; -1 where none does.
void TokenFinder::find_longest(std::string_view text, size_t begin, size_t end,
                               std::vector<int32_t>& longest) const {
  longest.resize(end - begin);
  uint32_t node = 0;
  for (size_t i = std::min(text.size(), end + longest_); i-- > begin;) {
    const auto byte = static_cast<unsigned char>(text[i]);
    uint32_t next = child(node, byte);
    while (next == 0 && node != 0) next = child(node = nodes_[node].shorter, byte);
    node = next;
    if (i < end) longest[i - begin] = nodes_[node].entry;
  }
}

bool TokenFinder::split(std::string_view text, const std::function<bool(const Span&)>& emit) const {
  size_t done = 0;                          // text before has been emitted
  size_t at = 0;                            // where the next token is searched
  size_t spaces_begin = 0, spaces_end = 0;  // the white space that rstrip measured last
  std::vector<int32_t> longest;
  for (size_t block = 0; block < text.size() && !entries_.empty(); block += kBlockBytes) {
    const size_t block_end = std::min(block + kBlockBytes, text.size());
    find_longest(text, block, block_end, longest);
    while (at < block_end) {
      if (longest[at - block] < 0) {
        ++at;
        continue;
      }
      const Entry& found = entries_[size_t(longest[at - block])];
      size_t begin = at, end = at + found.text.size();
      at = end;
      if (found.token->single_word && !is_single_word(text, begin, end)) continue;
      // A token behind one with rstrip may begin in the space that the latter took. It is a token all the
      // same.
      if (found.token->lstrip) begin = std::max(spaces_start_before(text, begin, done), done);
      if (found.token->rstrip) {
        if (end < spaces_begin || end > spaces_end)
          spaces_begin = end, spaces_end = spaces_end_after(text, end);
        end = spaces_end;
      }
      if (done < begin && !emit({done, begin, -1})) return false;
      if (begin < end && !emit({begin, end, found.id})) return false;
      done = end;
    }
  }
  return done >= text.size() || emit({done, text.size(), -1});
}

}  // namespace blockgtq
