#include "hf/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "hf/pattern.h"
#include "hf/tokenizer_json.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr utf8proc_ssize_t kMostParts = 32;  // of one code point; U+FDFA has 18

/// Whether normalization never joins the code point to what stands before it: it has no combining class, is
/// not the second part of a composition, and neither is the first of its decomposition. NFC leaves it
/// unchanged.
bool starts_unit(char32_t c) {
  return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x3041 && c <= 0x3096) ||
         (c >= 0x30A1 && c <= 0x30FA) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3);
}

/// Puts runs of combining marks into canonical order. utf8proc would sort them by exchanging neighbours,
/// which is quadratic in the length of a run.
void sort_marks(std::vector<utf8proc_int32_t>& points) {
  const auto mark_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (auto first = points.begin(); first != points.end();) {
    if (mark_class(*first) == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, points.end(), [&](auto c) { return mark_class(c) == 0; });
    std::stable_sort(first, last, [&](auto a, auto b) { return mark_class(a) < mark_class(b); });
    first = last;
  }
}

/// Appends the normalized text: code points are decomposed one by one, sorted, and composed if `options` say
/// so.
void append_normalized(utf8proc_option_t options, std::string_view text, std::string& out) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.data() + i);
    i += size_t(c.length);
    utf8proc_int32_t parts[kMostParts];
    const auto n = utf8proc_decompose_char(utf8proc_int32_t(c.value), parts, kMostParts,
                                           utf8proc_option_t(options | UTF8PROC_DECOMPOSE), nullptr);
    check(n > 0 && n <= kMostParts, "a code point of too many parts");
    points.insert(points.end(), parts, parts + n);
  }
  sort_marks(points);
  auto n = utf8proc_ssize_t(points.size());
  if (options & UTF8PROC_COMPOSE) n = utf8proc_normalize_utf32(points.data(), n, options);
  check(n >= 0, "utf8proc_normalize_utf32");
  for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(out, char32_t(points[size_t(i)]));
}

/// The same where code points of kInert split the text: these neither move nor combine.
void append_unit(utf8proc_option_t options, std::string_view unit, std::string& out) {
  size_t from = 0, i = 0;
  while (i < unit.size()) {
    const Utf8Char c = decode_utf8(unit.data() + i);
    const size_t next = i + size_t(c.length);
    if (find_row(kInert, kInertCount, c.value)) {
      if (from < i) append_normalized(options, unit.substr(from, i - from), out);
      out += unit.substr(i, size_t(c.length));
      from = next;
    }
    i = next;
  }
  if (from < unit.size()) append_normalized(options, unit.substr(from), out);
}

enum class Form { nfc, nfd, nfkc, nfkd };

bool apply_form(Form form, std::string_view text, std::string& out) {
  const bool compose = form == Form::nfc || form == Form::nfkc;
  const bool compatible = form == Form::nfkc || form == Form::nfkd;
  const auto options = utf8proc_option_t(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                         (compatible ? UTF8PROC_COMPAT : 0));
  out.clear();
  bool changed = false;
  std::string unit;
  size_t copied = 0;      // text before it is in out, once something has changed
  size_t unit_start = 0;  // the last code point that starts a unit
  for (size_t i = 0; i < text.size();) {
    Utf8Char c = decode_utf8(text.data() + i);
    const bool starts = starts_unit(c.value);
    if (starts) unit_start = i;
    i += size_t(c.length);
    if (c.value < 0x80 || (starts && form == Form::nfc)) continue;
    while (i < text.size()) {  // the rest of the unit
      c = decode_utf8(text.data() + i);
      if (starts_unit(c.value)) break;
      i += size_t(c.length);
    }
    unit.clear();
    const std::string_view before = text.substr(unit_start, i - unit_start);
    append_unit(options, before, unit);
    if (unit == before) continue;
    changed = true;
    out += text.substr(copied, unit_start - copied);
    out += unit;
    copied = i;
  }
  if (changed) out += text.substr(copied);
  return changed;
}

struct TooLong {};

/// No further than `most` bytes: else TooLong.
bool replace_matches(std::string_view text, const Pattern& pattern, const std::string& content, size_t most,
                     std::string& out) {
  out.clear();
  Matches matches(pattern);
  matches.start(text);
  size_t done = 0;
  bool found = false;
  for (size_t begin, end; matches.next(begin, end); done = end) {
    found = true;
    out.append(text.substr(done, begin - done)).append(content);
    if (out.size() > most) throw TooLong{};
  }
  if (found) out += text.substr(done);
  return found;
}

}  // namespace

struct Normalizer::Step {
  enum class Kind { form, prepend, replace };
  Kind kind = Kind::form;
  Form form = Form::nfc;
  std::string what;                // replace: this text,
  std::optional<Pattern> pattern;  // or what this matches
  std::string content;             // prepend, replace

  /// No further than `most` bytes: else TooLong. A form needs no such limit: a code point has kMostParts.
  bool apply(std::string_view text, size_t most, std::string& out) const {
    if (kind == Kind::form) return apply_form(form, text, out);
    if (kind == Kind::replace && pattern) return replace_matches(text, *pattern, content, most, out);
    if (kind == Kind::replace) {
      size_t n = 0;
      for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += what.size()) ++n;
      if (n == 0) return false;
      if (content.size() > most / n) throw TooLong{};
      out = replace_all(text, what, content);
      return true;
    }
    if (text.empty() || content.empty()) return false;
    if (content.size() > most) throw TooLong{};
    out.assign(content).append(text);
    return true;
  }
};

Normalizer::Normalizer(const Json* json, const std::string& where) : where_(where) {
  if (json) add(*json, where);
}
Normalizer::~Normalizer() = default;

void Normalizer::add(const Json& json, const std::string& where) {
  static const std::pair<const char*, Form> forms[] = {
      {"NFC", Form::nfc}, {"NFD", Form::nfd}, {"NFKC", Form::nfkc}, {"NFKD", Form::nfkd}};
  const std::string type = get_type(json, where);
  Step step;
  bool known = false;
  for (const auto& [name, form] : forms)
    if (type == name) known = true, step.form = form;
  if (type == "Sequence") {
    const Json& parts = get_member(json, "normalizers", where);
    if (!parts.is_array()) fail_input("{}: \"normalizers\" is not an array: {}", where, parts.type_name());
    for (const Json& part : parts) add(part, where);
    return;
  }
  if (steps_.size() == kMaxSteps) fail_input("{}: too many parts: more than {}", where, kMaxSteps);
  if (type == "Prepend") {
    step.kind = Step::Kind::prepend;
    step.content = get_string(json, "prepend", where);
  } else if (type == "Replace") {
    step.kind = Step::Kind::replace;
    step.content = get_string(json, "content", where);
    const Json& pattern = get_member(json, "pattern", where);
    if (!(pattern.is_object() && find_member(pattern, "Regex")))
      step.what = get_string(pattern, "String", where);
    const Pcre2Text expression = read_pattern(json, where);
    if (step.what.empty()) step.pattern.emplace(expression, where);
  } else if (!known) {
    fail_input("{}: the type is not supported: {}, allowed: NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence",
               where, type);
  }
  steps_.push_back(std::move(step));
}

bool Normalizer::apply(std::string_view text, std::string& out) const {
  const size_t most = kMaxGrowth * text.size() + kMinGrowth;
  bool changed = false;
  std::string next;
  try {
    for (const Step& step : steps_) {
      if (!step.apply(changed ? std::string_view(out) : text, most, next)) continue;
      if (next.size() > most) throw TooLong{};
      out.swap(next);
      changed = true;
    }
  } catch (const TooLong&) {
    fail_input("{}: makes too much of a text of {} bytes: more than {}", where_, text.size(), most);
  }
  return changed;
}

}  // namespace blockgtq
