#include "hf/pretokenizer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/byte_level.h"
#include "hf/split_behavior.h"
#include "hf/tokenizer_json.h"
#include "hf/unicode_tables.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr size_t kMaxStages = 64;

/// The part [begin, end) of a piece's text with `space_before` as its first byte.
Piece part_of(const Piece& piece, size_t begin, size_t end) {
  const size_t shift = piece.space_before ? 1 : 0;
  const bool space = begin < shift;
  return {piece.text.substr(space ? 0 : begin - shift, end - begin - (space ? 1 : 0)), space};
}

}  // namespace

struct Pretokenizer::Stage {
  enum class Kind { pattern, characters, words, byte_level, metaspace };
  enum class Prefix { never, first, always };
  Kind kind = Kind::pattern;
  std::optional<Pattern> pattern;        // of byte_level; without one the segment is a single word
  bool (*is_match)(char32_t) = nullptr;  // in place of a pattern: each such character is a match
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
  Prefix prefix = Prefix::never;  // byte_level, metaspace: whether a space is put before the text
  std::string space;              // metaspace: how tokens write a space
  bool split = false;             // metaspace: at spaces
};

/// The state of one segment in the stages.
struct Pretokenizer::Cut {
  std::string_view text;
  bool at_start;
  Scratch& scratch;
  const Emit& emit;
};

Pretokenizer::Pretokenizer(const Json* json, const std::string& where) {
  if (json) add(*json, where);
  int n_alphabets = 0;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const bool metaspace = stages_[i].kind == Stage::Kind::metaspace;
    if (metaspace && i + 1 < stages_.size())
      fail_input("{}: Metaspace is not the last of the sequence, which is not supported", where);
    n_alphabets += metaspace || stages_[i].kind == Stage::Kind::byte_level;
  }
  if (n_alphabets > 1)
    fail_input("{}: {} of ByteLevel and Metaspace in a sequence, allowed: 1", where, n_alphabets);
}

Pretokenizer::~Pretokenizer() = default;

Alphabet Pretokenizer::alphabet() const {
  Alphabet alphabet;
  for (const Stage& stage : stages_) {
    alphabet.bytes = alphabet.bytes || stage.kind == Stage::Kind::byte_level;
    if (stage.kind == Stage::Kind::metaspace) alphabet.space = stage.space;
  }
  return alphabet;
}

void Pretokenizer::add(const Json& json, const std::string& where) {
  using Kind = Stage::Kind;
  const std::string type = get_type(json, where);
  if (type == "Sequence") {
    const Json& parts = get_member(json, "pretokenizers", where);
    if (!parts.is_array()) fail_input("{}: \"pretokenizers\" is not an array: {}", where, parts.type_name());
    for (const Json& part : parts) add(part, where);
    return;
  }
  if (stages_.size() == kMaxStages) fail_input("{}: too many parts: more than {}", where, kMaxStages);
  Stage stage;
  if (type == "Split") {
    stage.pattern.emplace(read_pattern(json, where), where);
    stage.behavior = to_split_behavior(get_string(json, "behavior", where), where);
    stage.invert = get_bool(json, "invert", where);
  } else if (type == "Digits") {
    stage.kind = Kind::characters;
    stage.is_match = is_numeric;
    stage.behavior =
        get_bool(json, "individual_digits", where) ? SplitBehavior::isolated : SplitBehavior::contiguous;
  } else if (type == "Punctuation") {
    stage.kind = Kind::characters;
    stage.is_match = is_punctuation;
    if (find_member(json, "behavior"))
      stage.behavior = to_split_behavior(get_string(json, "behavior", where), where);
  } else if (type == "WhitespaceSplit") {
    stage.kind = Kind::characters;
    stage.is_match = is_space;
    stage.behavior = SplitBehavior::removed;
  } else if (type == "Whitespace") {
    stage.kind = Kind::words;
  } else if (type == "ByteLevel") {
    stage.kind = Kind::byte_level;
    if (get_bool(json, "add_prefix_space", where)) stage.prefix = Stage::Prefix::always;
    if (get_bool(json, "use_regex", where, true)) stage.pattern.emplace(to_pcre2(kGpt2Pattern, where), where);
  } else if (type == "Metaspace") {
    stage.kind = Kind::metaspace;
    stage.space = get_string(json, "replacement", where);
    if (stage.space.empty() || decode_utf8(stage.space.data()).length != int(stage.space.size()))
      fail_input("{}: \"replacement\" is not one character: \"{}\"", where, stage.space);
    const std::string scheme = read_prepend_scheme(json, where);
    stage.prefix = scheme == "always"  ? Stage::Prefix::always
                   : scheme == "first" ? Stage::Prefix::first
                                       : Stage::Prefix::never;
    stage.split = get_bool(json, "split", where, true);
  } else {
    fail_input(
        "{}: the type is not supported: {}, allowed: ByteLevel, Digits, Metaspace, Punctuation, Sequence, "
        "Split, Whitespace, WhitespaceSplit",
        where, type);
  }
  stages_.push_back(std::move(stage));
}

Pretokenizer::Scratch::Scratch(const Pretokenizer& pretokenizer) {
  for (const Stage& stage : pretokenizer.stages_) {
    matches_.emplace_back();
    if (stage.pattern) matches_.back().emplace(*stage.pattern);
  }
}

bool Pretokenizer::split(std::string_view segment, bool at_start, Scratch& scratch, const Emit& emit) const {
  return run(0, 0, segment.size(), {segment, at_start, scratch, emit});
}

/// Cuts [begin, end) at this stage, and runs the following stages on the parts.
bool Pretokenizer::run(size_t index, size_t begin, size_t end, const Cut& cut) const {
  if (index == stages_.size()) return cut.emit({cut.text.substr(begin, end - begin), false});
  const Stage& stage = stages_[index];
  if (stage.kind == Stage::Kind::byte_level) return run_byte_level(index, begin, end, cut);
  if (stage.kind == Stage::Kind::metaspace) return run_metaspace(index, begin, end, cut);
  if (stage.kind == Stage::Kind::words) return run_words(index, begin, end, cut);

  Splitter splitter(stage.behavior,
                    [&](size_t b, size_t e) { return run(index + 1, begin + b, begin + e, cut); });
  if (stage.kind == Stage::Kind::characters) {
    size_t last = 0;
    for (size_t i = 0; i < end - begin;) {
      const Utf8Char c = decode_utf8(cut.text.data() + begin + i);
      const size_t next = i + size_t(c.length);
      if (stage.is_match(c.value)) {
        if (last < i && !splitter.add(last, i, false)) return false;
        if (!splitter.add(i, next, true)) return false;
        last = next;
      }
      i = next;
    }
    return (last == end - begin || splitter.add(last, end - begin, false)) && splitter.finish();
  }
  return split_at_matches(cut.text.substr(begin, end - begin), *cut.scratch.matches_[index], stage.invert,
                          splitter);
}

/// Whitespace: the matches of \w+|[^\w\s]+ in Rust's syntax.
bool Pretokenizer::run_words(size_t index, size_t begin, size_t end, const Cut& cut) const {
  const auto kind_at = [&](size_t i) {
    const Utf8Char c = decode_utf8(cut.text.data() + i);
    return std::pair(is_space(c.value) ? 0 : is_word(c.value) ? 1 : 2, size_t(c.length));
  };
  for (size_t i = begin; i < end;) {
    const auto [kind, length] = kind_at(i);
    const size_t first = i;
    for (i += length; i < end;) {
      const auto [next_kind, next_length] = kind_at(i);
      if (next_kind != kind) break;
      i += next_length;
    }
    if (kind != 0 && !run(index + 1, first, i, cut)) return false;
  }
  return true;
}

bool Pretokenizer::run_byte_level(size_t index, size_t begin, size_t end, const Cut& cut) const {
  const Stage& stage = stages_[index];
  const bool space = stage.prefix == Stage::Prefix::always && cut.text[begin] != ' ';
  const Piece piece = {cut.text.substr(begin, end - begin), space};
  const auto sink = [&](const Piece& part) {
    return index + 1 == stages_.size() ? cut.emit(part) : run_in_alphabet(index + 1, part, cut);
  };
  if (!stage.pattern) return sink(piece);
  Splitter splitter(SplitBehavior::isolated, [&](size_t b, size_t e) { return sink(part_of(piece, b, e)); });
  std::string subject;
  if (space) subject.append(" ").append(piece.text);
  return split_at_matches(space ? std::string_view(subject) : piece.text, *cut.scratch.matches_[index], false,
                          splitter);
}

/// Stages after ByteLevel in a sequence get a piece in the alphabet of byte_level.h, with a character for
/// every byte.
bool Pretokenizer::run_in_alphabet(size_t index, const Piece& piece, const Cut& cut) const {
  std::string written;
  if (piece.space_before) append_byte_level(written, " ");
  append_byte_level(written, piece.text);
  size_t at = 0, byte = 0;  // the same place in `written` and in the piece
  const auto byte_at = [&](size_t offset) {
    for (; at < offset; ++byte) at += size_t(decode_utf8(written.data() + at).length);
    return byte;
  };
  const Emit emit = [&](const Piece& part) {
    const size_t first = size_t(part.text.data() - written.data());
    const size_t begin = byte_at(first);
    return cut.emit(part_of(piece, begin, byte_at(first + part.text.size())));
  };
  return run(index, 0, written.size(), {written, cut.at_start, cut.scratch, emit});
}

bool Pretokenizer::run_metaspace(size_t index, size_t begin, size_t end, const Cut& cut) const {
  const Stage& stage = stages_[index];
  const std::string_view text = cut.text.substr(begin, end - begin);
  const auto space_at = [&](size_t i) -> size_t {  // the length of the space there
    if (text[i] == ' ') return 1;
    return text.substr(i).starts_with(stage.space) ? stage.space.size() : 0;
  };
  const bool wanted = stage.prefix == Stage::Prefix::always ||
                      (stage.prefix == Stage::Prefix::first && begin == 0 && cut.at_start);
  const Piece piece = {text, wanted && space_at(0) == 0};
  if (!stage.split) return cut.emit(piece);
  size_t first = 0;
  bool space_before = piece.space_before;  // of the word that starts at `first`
  for (size_t i = 0; i < text.size();) {
    const size_t length = space_at(i);
    if (length > 0 && first < i) {
      if (!cut.emit({text.substr(first, i - first), space_before})) return false;
      first = i;
      space_before = false;
    }
    i += length > 0 ? length : size_t(decode_utf8(text.data() + i).length);
  }
  return cut.emit({text.substr(first), space_before});
}

}  // namespace blockgtq
