#include "hf/pattern_syntax.h"

#include <array>
#include <cctype>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr int kMaxGroupDepth = 64;
constexpr int kMaxRepeat = 65535;  // PCRE2's own limit
constexpr std::array kProperties = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd",
                                    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
                                    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};

std::string code(char32_t c) {
  return fmt::format("\\x{{{:X}}}", uint32_t(c));
}

class Translator {
 public:
  Translator(std::string_view in, const std::string& where) : in_(in), where_(where) {}

  Pcre2Text run() {
    expression(0, false);
    if (at_ < in_.size()) refuse("an unmatched )");
    if (has_categories_ && told_apart_) {
      at_ = told_apart_at_;
      refuse(fmt::format("categories, and U+{:04X}..U+{:04X} told from others of its kind",
                         uint32_t(told_apart_->first), uint32_t(told_apart_->last)));
    }
    return {std::move(out_), has_categories_};
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail_input("{}: the pattern has {} at byte {}, which is not supported: {}", where_, what, at_,
               std::string(in_));
  }
  bool starts(std::string_view s) const { return in_.substr(at_).starts_with(s); }
  bool at_end() const { return at_ >= in_.size() || in_[at_] == '|' || in_[at_] == ')'; }
  bool eat(std::string_view s) {
    if (!starts(s)) return false;
    at_ += s.size();
    return true;
  }
  char32_t next() {
    if (at_ >= in_.size()) refuse("an end too early");
    const Utf8Char c = decode_utf8(in_.data() + at_);
    at_ += size_t(c.length);
    return c.value;
  }

  /// Parses alternatives up to the closing parenthesis or the end.
  void expression(int depth, bool caseless) {
    if (depth > kMaxGroupDepth) refuse(fmt::format("groups more than {} deep", kMaxGroupDepth));
    while (at_ < in_.size() && in_[at_] != ')') {
      if (eat("|")) {
        out_ += '|';
        continue;
      }
      const size_t atom_start = out_.size();
      const bool repeatable = atom(depth, caseless);
      quantifier(atom_start, repeatable);
    }
  }

  /// Parses one atom; false when it may not be repeated.
  bool atom(int depth, bool caseless) {
    if (starts("(")) return group(depth, caseless);
    if (eat("[")) return set(caseless), true;
    if (eat(".")) return out_ += "[^\\n]", true;
    if (eat("^")) return out_ += "(?m:^)", false;
    if (eat("$")) return out_ += "(?m:$)", false;
    if (starts("*") || starts("+") || starts("?")) refuse("a quantifier of nothing");
    if (!eat("\\")) {
      literal(next(), caseless);
      return true;
    }
    std::string item;
    const std::optional<char32_t> c = escape(item, false);
    if (c) {
      literal(*c, caseless);
    } else {
      if (caseless) refuse("a character kind inside (?i:)");
      out_ += item;
    }
    return true;
  }

  bool group(int depth, bool caseless) {
    const auto inside = [&](const char* open, bool i) {
      out_ += open;
      expression(depth + 1, i);
      if (!eat(")")) refuse("an unclosed group");
      out_ += ')';
    };
    if (caseless) refuse("a group inside (?i:)");
    if (eat("(?:")) return inside("(?:", false), true;
    if (eat("(?i:")) return inside("(?i:", true), true;
    if (eat("(?>")) return inside("(?>", false), true;
    if (eat("(?=")) return inside("(?=", false), false;
    if (eat("(?!")) return inside("(?!", false), false;
    if (starts("(?") || starts("(*")) refuse("a special group " + std::string(in_.substr(at_, 4)));
    eat("(");
    return inside("(?:", false), true;  // nobody reads the capture
  }

  void literal(char32_t c, bool caseless) {
    check_code_points(c, c);
    if (caseless) {
      // Oniguruma folds ss, st, ff, fi and fl together with their ligatures.
      const bool may_join = c < 0x80 && (std::tolower(int(c)) == 's' || std::tolower(int(c)) == 'f');
      if (c >= 0x80 || (may_join && !at_end())) refuse("a letter with a special case folding inside (?i:)");
    }
    out_ += code(c);
  }

  /// Parses what follows a backslash: a character; or none, with PCRE2's spelling of a class of characters in
  /// `item`.
  std::optional<char32_t> escape(std::string& item, bool in_set) {
    const char32_t c = next();
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'f':
        return U'\f';
      case 'v':
        return U'\v';
      case 'a':
        return U'\a';
      case 'e':
        return 0x1B;
      case 'x':
        return eat("{") ? hex(1, 6, "}") : hex(1, 2, "");
      case 'u':
        return hex(4, 4, "");
      case 'd':
        has_categories_ = true;
        item = "\\p{Nd}";
        return std::nullopt;
      case 'D':
        has_categories_ = true;
        item = "\\P{Nd}";
        return std::nullopt;
      case 's':
        item = in_set ? space(false) : "[" + space(false) + "]";
        return std::nullopt;
      case 'S':
        item = in_set ? space(true) : "[" + space(true) + "]";
        return std::nullopt;
      case 'p':
      case 'P':
        item = property(c == 'P');
        return std::nullopt;
      default:
        break;
    }
    if (c >= 0x80 || std::isalnum(int(c))) refuse("the escape \\" + std::string(1, char(c)));
    return c;
  }

  char32_t hex(size_t least, size_t most, std::string_view close) {
    char32_t value = 0;
    size_t n = 0;
    for (; n < most && at_ < in_.size() && std::isxdigit(static_cast<unsigned char>(in_[at_])); ++n, ++at_) {
      const char d = char(std::tolower(in_[at_]));
      value = value * 16 + char32_t(d <= '9' ? d - '0' : d - 'a' + 10);
    }
    // From 80 on \xHH is one byte of a character, not a code point.
    const bool byte = most == 2 && value >= 0x80;
    if (n < least || !eat(close) || byte || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      refuse("a character number that is none");
    return value;
  }

  std::string property(bool negated) {
    if (!eat("{")) refuse("\\p without {");
    if (eat("^")) negated = !negated;
    const size_t close = in_.find('}', at_);
    if (close == std::string_view::npos) refuse("an unclosed \\p{");
    const std::string_view name = in_.substr(at_, close - at_);
    for (const char* known : kProperties) {
      if (name != known) continue;
      at_ = close + 1;
      has_categories_ = true;
      return fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', known);
    }
    refuse("the property \\p{" + std::string(name) + "}");
  }

  static std::string space(bool negated) {
    std::string ranges;
    char32_t from = 0;
    for (const CodeRange& r : kSpace) {
      ranges += negated ? code(from) + "-" + code(r.first - 1) : code(r.first) + "-" + code(r.last);
      from = r.last + 1;
    }
    return negated ? ranges + code(from) + "-\\x{D7FF}\\x{E000}-\\x{10FFFF}" : ranges;
  }

  void set(bool caseless) {
    out_ += '[';
    if (eat("^")) {
      if (caseless) refuse("a negated set inside (?i:)");
      out_ += '^';
    }
    if (starts("]")) refuse("an empty set");
    while (!eat("]")) {
      if (starts("[")) refuse("a set in a set");
      if (starts("&&")) refuse("a set operation");
      std::string kind;
      const std::optional<char32_t> first = set_item(kind);
      if (!first) {
        if (caseless) refuse("a character kind inside (?i:)");
        out_ += kind;
        if (starts("-") && !starts("-]")) refuse("a range without a start");
        continue;
      }
      char32_t last = *first;
      if (starts("-") && !starts("-]")) {
        eat("-");
        if (starts("[") || starts("&&")) refuse("a range without an end");
        const std::optional<char32_t> end = set_item(kind);
        if (!end || *end < *first) refuse("a range without an end");
        last = *end;
      }
      if (caseless && last >= 0x80) refuse("a letter beyond ASCII inside (?i:)");
      check_code_points(*first, last);
      out_ += code(*first) + "-" + code(last);
    }
    out_ += ']';
  }

  std::optional<char32_t> set_item(std::string& kind) { return eat("\\") ? escape(kind, true) : next(); }

  /// Where there are categories, code points of kReplaced match as their equivalents. So a range must hold
  /// both or neither.
  void check_code_points(char32_t first, char32_t last) {
    for (size_t i = 0; i < kReplacedCount && !told_apart_; ++i) {
      const CodeReplacement& r = kReplaced[i];
      const bool all = first <= r.first && r.last <= last, some = r.first <= last && first <= r.last;
      const bool same = first <= r.same_as && r.same_as <= last;
      if (all == some && all == same) continue;
      told_apart_ = &r;
      told_apart_at_ = at_;
    }
  }

  struct Interval {
    int least = 0, most = -1;  // -1: no end
    bool fixed = false;        // {n}
  };

  /// Parses {n} {n,} {n,m} {,m}. Anything else that begins with { is text.
  std::optional<Interval> interval() {
    size_t i = at_ + 1;
    const auto number = [&]() -> std::optional<int> {
      const size_t start = i;
      int value = 0;
      for (; i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i])); ++i) {
        value = value * 10 + (in_[i] - '0');
        if (value > kMaxRepeat) refuse(fmt::format("a repetition of more than {}", kMaxRepeat));
      }
      return i == start ? std::nullopt : std::optional(value);
    };
    if (!starts("{")) return std::nullopt;
    const std::optional<int> least = number();
    const bool comma = i < in_.size() && in_[i] == ',';
    if (comma) ++i;
    const std::optional<int> most = comma ? number() : least;
    if (i >= in_.size() || in_[i] != '}' || (!least && !most)) return std::nullopt;
    if (most && least && *most < *least) refuse("an interval that ends before it starts");
    at_ = i + 1;
    return Interval{least.value_or(0), most.value_or(-1), !comma};
  }

  void quantifier(size_t atom_start, bool repeatable) {
    const size_t before = at_;
    if (const auto n = interval()) {
      out_ += fmt::format("{{{},{}}}", n->least, n->most < 0 ? "" : std::to_string(n->most));
      // In Ruby's syntax {n,m}+ repeats the whole expression, and so does {n}?.
      const bool group = starts("+") || (n->fixed && starts("?"));
      if (group) {
        out_.insert(atom_start, "(?:");
        out_ += ')';
        out_ += char(next());
      } else if (eat("?")) {
        out_ += '?';
      }
    } else if (starts("*") || starts("+") || starts("?")) {
      out_ += char(next());
      if (starts("?") || starts("+")) out_ += char(next());
    } else {
      return;
    }
    if (!repeatable) refuse("a repeated assertion");
    const size_t after = at_;
    if (starts("*") || starts("+") || starts("?") || interval()) {
      at_ = before;
      refuse("a quantifier of a quantifier");
    }
    at_ = after;
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  bool has_categories_ = false;
  const CodeReplacement* told_apart_ = nullptr;  // the first such row, and its place
  size_t told_apart_at_ = 0;
};

}  // namespace

Pcre2Text to_pcre2(std::string_view oniguruma, const std::string& where) {
  return Translator(oniguruma, where).run();
}

Pcre2Text literal_to_pcre2(std::string_view text) {
  Pcre2Text literal;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.data() + i);
    literal.text += code(c.value);
    i += size_t(c.length);
  }
  return literal;
}

}  // namespace blockgtq
