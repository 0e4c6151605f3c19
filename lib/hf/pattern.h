#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace blockgtq {

/// What one match may cost before it is an error: backtracking steps, and memory for them.
inline constexpr unsigned kMatchLimit = 20'000'000;
inline constexpr unsigned kMatchHeapKiB = 256 << 10;

/// A compiled expression (pattern_syntax.h); may be used by several threads at once.
class Pattern {
 public:
  /// `pcre2` is what to_pcre2() made; `where` names it in messages.
  Pattern(const std::string& pcre2, std::string where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;

 private:
  friend class Matches;
  pcre2_real_code_8* code_;
  std::string where_;
};

/// All matches in a subject, one after the other, as Oniguruma's iterator of the `onig` crate gives them: an
/// empty match at the end of the one before does not count. One object serves many subjects.
class Matches {
 public:
  explicit Matches(const Pattern& pattern);
  ~Matches();
  Matches(Matches&&) noexcept;

  void start(std::string_view subject);  // well-formed UTF-8
  /// The next match [begin, end) in bytes; false when there is none. Exit::input at the limits.
  bool next(size_t& begin, size_t& end);

 private:
  struct Scratch;
  const Pattern* pattern_;
  std::unique_ptr<Scratch> scratch_;
  std::string_view subject_;
  size_t from_ = 0, last_end_ = 0;
};

}  // namespace blockgtq
