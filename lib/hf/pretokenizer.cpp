#include "hf/pretokenizer.h"

#include <bitset>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/pattern_syntax.h"
#include "hf/split_behavior.h"
#include "hf/tokenizer_json.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char32_t kFirstReplaced = 0x295;
constexpr int kMaxStages = 64;

/// Pages of 256 code points with a row of kReplaced.
const std::bitset<0x1100>& replaced_pages() {
  static const std::bitset<0x1100> pages = [] {
    std::bitset<0x1100> p;
    for (size_t i = 0; i < kReplacedCount; ++i)
      for (char32_t page = kReplaced[i].first >> 8; page <= kReplaced[i].last >> 8; ++page) p.set(page);
    return p;
  }();
  return pages;
}

/// The text as patterns are to see it: code points of kReplaced as their equals, at the same offsets. `copy`
/// holds it where it differs.
std::string_view shadow_of(std::string_view text, std::string& copy) {
  const std::bitset<0x1100>& pages = replaced_pages();
  bool copied = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.data() + i);
    if (c.value >= kFirstReplaced && pages[c.value >> 8]) {
      if (const CodeReplacement* r = find_row(kReplaced, kReplacedCount, c.value)) {
        if (!copied) copy.assign(text);
        copied = true;
        std::string same;
        append_utf8(same, r->same_as);
        check(same.size() == size_t(c.length), "a replacement of another length");
        copy.replace(i, same.size(), same);
      }
    }
    i += size_t(c.length);
  }
  return copied ? std::string_view(copy) : text;
}

}  // namespace

struct Pretokenizer::Stage {
  enum class Kind { split, digits, byte_level };
  Kind kind = Kind::split;
  std::optional<Pattern> pattern;  // split; byte_level with use_regex
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
  bool add_prefix_space = false;
};

/// One segment on its way through the stages.
struct Pretokenizer::Cut {
  std::string_view text, shadow;
  Scratch& scratch;
  const Emit& emit;
};

Pretokenizer::Pretokenizer(const Json* json, const std::string& where) {
  if (json) add(*json, where);
  for (size_t i = 0; i + 1 < stages_.size(); ++i)
    if (stages_[i].kind == Stage::Kind::byte_level)
      fail_input("{}: ByteLevel is not the last of the sequence, which is not supported", where);
}

Pretokenizer::~Pretokenizer() = default;

bool Pretokenizer::byte_level() const {
  return !stages_.empty() && stages_.back().kind == Stage::Kind::byte_level;
}

void Pretokenizer::add(const Json& json, const std::string& where) {
  const std::string type = get_type(json, where);
  if (type == "Sequence") {
    const Json& parts = get_member(json, "pretokenizers", where);
    if (!parts.is_array()) fail_input("{}: \"pretokenizers\" is not an array: {}", where, parts.type_name());
    for (const Json& part : parts) add(part, where);
    if (stages_.size() > kMaxStages)
      fail_input("{}: too many parts: {}, allowed: {}", where, stages_.size(), kMaxStages);
    return;
  }
  Stage stage;
  if (type == "Split") {
    const Json& pattern = get_member(json, "pattern", where);
    const bool regex = pattern.is_object() && find_member(pattern, "Regex");
    const std::string text = get_string(pattern, regex ? "Regex" : "String", where);
    stage.pattern.emplace(regex ? to_pcre2(text, where) : literal_to_pcre2(text, where), where);
    stage.behavior = to_split_behavior(get_string(json, "behavior", where), where);
    stage.invert = get_bool(json, "invert", where);
  } else if (type == "Digits") {
    stage.kind = Stage::Kind::digits;
    stage.behavior =
        get_bool(json, "individual_digits", where) ? SplitBehavior::isolated : SplitBehavior::contiguous;
  } else if (type == "ByteLevel") {
    stage.kind = Stage::Kind::byte_level;
    stage.add_prefix_space = get_bool(json, "add_prefix_space", where);
    if (get_bool(json, "use_regex", where, true)) stage.pattern.emplace(to_pcre2(kGpt2Pattern, where), where);
  } else {
    fail_input("{}: the type is not supported: {}, allowed: ByteLevel, Digits, Sequence, Split", where, type);
  }
  stages_.push_back(std::move(stage));
}

Pretokenizer::Scratch::Scratch(const Pretokenizer& pretokenizer) {
  for (const Stage& stage : pretokenizer.stages_) {
    matches_.emplace_back();
    if (stage.pattern) matches_.back().emplace(*stage.pattern);
  }
}

bool Pretokenizer::split(std::string_view segment, Scratch& scratch, const Emit& emit) const {
  const std::string_view shadow = stages_.empty() ? segment : shadow_of(segment, scratch.shadow_);
  return run(0, 0, segment.size(), {segment, shadow, scratch, emit});
}

/// Cuts [begin, end) at this stage, and what it makes of it at the following ones.
bool Pretokenizer::run(size_t index, size_t begin, size_t end, const Cut& cut) const {
  if (index == stages_.size()) return cut.emit({cut.text.substr(begin, end - begin), false});
  const Stage& stage = stages_[index];
  if (stage.kind == Stage::Kind::byte_level) return run_byte_level(stage, index, begin, end, cut);

  Splitter splitter(stage.behavior,
                    [&](size_t b, size_t e) { return run(index + 1, begin + b, begin + e, cut); });
  if (stage.kind == Stage::Kind::digits) {
    size_t last = 0;
    for (size_t i = 0; i < end - begin;) {
      const Utf8Char c = decode_utf8(cut.text.data() + begin + i);
      const size_t next = i + size_t(c.length);
      if (is_numeric(c.value)) {
        if (last < i && !splitter.add(last, i, false)) return false;
        if (!splitter.add(i, next, true)) return false;
        last = next;
      }
      i = next;
    }
    return (last == end - begin || splitter.add(last, end - begin, false)) && splitter.finish();
  }
  return split_at_matches(cut.shadow.substr(begin, end - begin), *cut.scratch.matches_[index], stage.invert,
                          splitter);
}

bool Pretokenizer::run_byte_level(const Stage& stage, size_t index, size_t begin, size_t end,
                                  const Cut& cut) const {
  const bool space = stage.add_prefix_space && cut.text[begin] != ' ';
  if (!stage.pattern) return cut.emit({cut.text.substr(begin, end - begin), space});
  const size_t shift = space ? 1 : 0;
  Splitter splitter(SplitBehavior::isolated, [&](size_t b, size_t e) {
    const size_t from = b < shift ? 0 : b - shift;
    return cut.emit({cut.text.substr(begin + from, e - shift - from), b < shift});
  });
  std::string subject;
  if (space) subject.append(" ").append(cut.shadow.substr(begin, end - begin));
  return split_at_matches(space ? std::string_view(subject) : cut.shadow.substr(begin, end - begin),
                          *cut.scratch.matches_[index], false, splitter);
}

}  // namespace blockgtq
