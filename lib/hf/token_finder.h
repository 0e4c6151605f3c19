#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

/// One of the "added_tokens" of a tokenizer.json.
struct AddedToken {
  std::string content;
  bool single_word = false;             // not next to a word character
  bool lstrip = false, rstrip = false;  // takes the white space before, behind
  bool normalized = false;              // looked for in the normalized text, else in the text as it is
  bool special = false;

  bool operator==(const AddedToken&) const = default;
};

/// A part of a text: a token, or text between tokens (id -1).
struct Span {
  size_t begin, end;
  int32_t id;
};

/// Finds tokens of a set in a text: the leftmost match, of these the longest, then on from its end. The time
/// is linear in the text, whatever the tokens are. An Aho-Corasick automaton of the reversed tokens reads the
/// text backwards, block by block, and knows at every byte the longest token that starts there.
class TokenFinder {
 public:
  struct Entry {
    std::string text;  // what is looked for; not empty
    int32_t id;
    const AddedToken* token;
  };
  TokenFinder() = default;
  explicit TokenFinder(std::vector<Entry> entries);

  /// Calls emit for every part in order; emit returns false to stop. Returns false when stopped.
  bool split(std::string_view text, const std::function<bool(const Span&)>& emit) const;

 private:
  struct Node {
    uint32_t children = 0;  // the first child; children are adjacent, ordered by byte
    uint16_t n_children = 0;
    unsigned char byte = 0;  // of the edge that leads here
    uint32_t shorter = 0;    // the suffix link: the longest other node whose text this node's text ends with
    int32_t entry = -1;      // the longest entry that starts at the byte read last
  };
  void build();
  void link();
  uint32_t child(uint32_t node, unsigned char byte) const;  // 0: none
  void find_longest(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& longest) const;

  std::vector<Entry> entries_;
  std::vector<Node> nodes_;            // by depth; [0] is the root
  std::array<uint32_t, 256> first_{};  // children of the root; 0: none
  size_t longest_ = 0;                 // bytes of the longest entry
};

}  // namespace blockgtq
