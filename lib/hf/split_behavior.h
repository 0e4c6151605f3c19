#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "hf/pattern.h"

namespace blockgtq {

/// What Split makes of its matches: words of their own; nothing; a part of the text before or behind; or one
/// word with adjacent matches.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// Exit::input for any other name.
inline SplitBehavior to_split_behavior(const std::string& name, const std::string& where) {
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fail_input(
      "{}: the behavior is not supported: {}, allowed: Isolated, Removed, MergedWithPrevious, "
      "MergedWithNext, "
      "Contiguous",
      where, name);
}

/// Takes matches and the text between them in order and gives words [begin, end) to the sink, which returns
/// false to stop. Empty words are dropped; empty matches count as neighbours.
template <class Sink>
class Splitter {
 public:
  Splitter(SplitBehavior behavior, Sink sink) : behavior_(behavior), sink_(std::move(sink)) {}

  bool add(size_t begin, size_t end, bool match) {
    const bool match_before = std::exchange(match_before_, match);
    switch (behavior_) {
      case SplitBehavior::isolated:
        return put(begin, end);
      case SplitBehavior::removed:
        return match || put(begin, end);
      case SplitBehavior::merged_with_previous:
        if (held_ && match && !match_before) return end_ = end, true;
        return hold(begin, end);
      case SplitBehavior::contiguous:
        if (held_ && match == match_before) return end_ = end, true;
        return hold(begin, end);
      case SplitBehavior::merged_with_next:
        if (match) return hold(begin, end);
        if (!held_) return put(begin, end);
        held_ = false;
        return put(begin_, end);
    }
    return false;
  }

  bool finish() { return !held_ || put(begin_, end_); }

 private:
  bool put(size_t begin, size_t end) { return begin == end || sink_(begin, end); }
  bool hold(size_t begin, size_t end) {
    const bool go_on = !held_ || put(begin_, end_);
    held_ = true;
    begin_ = begin;
    end_ = end;
    return go_on;
  }

  SplitBehavior behavior_;
  Sink sink_;
  bool match_before_ = false, held_ = false;
  size_t begin_ = 0, end_ = 0;  // the word held back
};

/// Splits a subject at the matches of a pattern, or with `invert` at the text between them.
template <class Sink>
bool split_at_matches(std::string_view subject, Matches& matches, bool invert, Splitter<Sink>& splitter) {
  matches.start(subject);
  size_t last = 0, begin, end;
  while (matches.next(begin, end)) {
    if (last != begin && !splitter.add(last, begin, invert)) return false;
    if (!splitter.add(begin, end, !invert)) return false;
    last = end;
  }
  return (last == subject.size() || splitter.add(last, subject.size(), invert)) && splitter.finish();
}

}  // namespace blockgtq
