#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "hf/pattern_syntax.h"

struct pcre2_real_code_8;

namespace blockgtq {

/// The budget of all matches in one text: backtracking steps, and bytes that matches look at beyond a few
/// hundred each; and the memory of one match. Beyond it a text is an error.
inline constexpr uint64_t kMatchSteps = 20'000'000, kMatchStepsPerByte = 64;
inline constexpr unsigned kMatchHeapKiB = 256 << 10;

/// A compiled expression; may be used by several threads at once.
class Pattern {
 public:
  Pattern(const Pcre2Text& pcre2, std::string where);  // `where` names it in messages
  ~Pattern();
  Pattern(Pattern&&) noexcept;

 private:
  friend class Matches;
  pcre2_real_code_8* code_;
  bool has_categories_;
  std::string where_;
};

/// All matches in a subject, one after the other, as Oniguruma's iterator of the `onig` crate returns them:
/// an empty match at the end of the previous one does not count. One object serves all subjects of one text.
/// Where the expression has categories, the code points of kReplaced match as their equivalents.
class Matches {
 public:
  explicit Matches(const Pattern& pattern);
  ~Matches();
  Matches(Matches&&) noexcept;

  void start(std::string_view subject);  // well-formed UTF-8; must outlive the search
  /// The next match [begin, end) in bytes; false when there is none. Exit::input when all subjects together
  /// have spent the budget.
  bool next(size_t& begin, size_t& end);

 private:
  struct Scratch;
  bool search(size_t& begin, size_t& end);
  void spend(uint64_t steps);
  const Pattern* pattern_;
  std::unique_ptr<Scratch> scratch_;
  std::string_view subject_;
  std::string replaced_;
  size_t from_ = 0, last_end_ = 0;
  uint64_t allowed_ = kMatchSteps, spent_ = 0;
};

}  // namespace blockgtq
