// Where words end. Expectations are those of the `tokenizers` library.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch.h"
#include "hf/pretokenizer.h"

using namespace blockgtq;

namespace {

using Words = std::vector<std::string>;

Words cut(const std::string& json, const std::string& text) {
  const Json j = parse_json(json, "t");
  const Pretokenizer p(j.is_null() ? nullptr : &j, "t");
  Pretokenizer::Scratch scratch(p);
  Words out;
  p.split(text, scratch, [&](const Piece& piece) {
    out.push_back((piece.space_before ? "+" : "") + std::string(piece.text));
    return true;
  });
  return out;
}

std::string split(const std::string& pattern, const std::string& behavior, bool invert = false) {
  return R"({"type":"Split","pattern":)" + pattern + R"(,"behavior":")" + behavior + R"(","invert":)" +
         (invert ? "true}" : "false}");
}

std::string byte_level(bool prefix, bool regex) {
  return std::string(R"({"type":"ByteLevel","trim_offsets":true,"add_prefix_space":)") +
         (prefix ? "true" : "false") + R"(,"use_regex":)" + (regex ? "true}" : "false}");
}

const std::string kDash = R"({"String":"-"})";

}  // namespace

TEST_CASE("behaviours of Split", "[hf][pretokenizer]") {
  const std::string text = "-The-final--countdown-";
  CHECK(cut(split(kDash, "Isolated"), text) == Words{"-", "The", "-", "final", "-", "-", "countdown", "-"});
  CHECK(cut(split(kDash, "Removed"), text) == Words{"The", "final", "countdown"});
  CHECK(cut(split(kDash, "MergedWithPrevious"), text) == Words{"-", "The-", "final-", "-", "countdown-"});
  CHECK(cut(split(kDash, "MergedWithNext"), text) == Words{"-The", "-final", "-", "-countdown", "-"});
  CHECK(cut(split(kDash, "Contiguous"), text) == Words{"-", "The", "-", "final", "--", "countdown", "-"});
  CHECK(cut(split(kDash, "Removed", true), text) == Words{"-", "-", "-", "-", "-"});
  CHECK(cut(split(kDash, "MergedWithPrevious", true), text) ==
        Words{"-The", "-final", "-", "-countdown", "-"});
  CHECK(cut(split(R"({"String":"a.b"})", "Isolated"), "aab a.b") == Words{"aab ", "a.b"});
  CHECK(cut(split(R"({"Regex":"x*"})", "Isolated"), "axxb") == Words{"a", "xx", "b"});
  CHECK(cut("null", "a b") == Words{"a b"});
}

TEST_CASE("ByteLevel", "[hf][pretokenizer]") {
  CHECK(cut(byte_level(false, true), "it's  a 12x!\n\n y") ==
        Words{"it", "'s", " ", " a", " 12", "x", "!", "\n\n", " y"});
  CHECK(cut(byte_level(true, true), "ab cd") == Words{"+ab", " cd"});
  CHECK(cut(byte_level(true, true), " ab") == Words{" ab"});
  CHECK(cut(byte_level(true, true), "\nab") == Words{"+", "\n", "ab"});
  CHECK(cut(byte_level(true, false), "ab cd") == Words{"+ab cd"});
  CHECK(cut(R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false})", "a b") ==
        Words{"a", " b"});
}

TEST_CASE("Digits and Sequence", "[hf][pretokenizer]") {
  CHECK(cut(R"({"type":"Digits","individual_digits":true})", "a12\u00bdb") ==
        Words{"a", "1", "2", "\u00bd", "b"});
  CHECK(cut(R"({"type":"Digits","individual_digits":false})", "12a34") == Words{"12", "a", "34"});
  CHECK(cut(R"({"type":"Sequence","pretokenizers":[{"type":"Sequence","pretokenizers":[]},)" +
                split(kDash, "Removed") + "," + byte_level(true, true) + "]}",
            "a b-c") == Words{"+a", " b", "+c"});
  CHECK(cut(R"({"type":"Sequence","pretokenizers":[]})", "a b") == Words{"a b"});
}

TEST_CASE("letters of Unicode 15 and 16 are letters, of 17 nothing yet", "[hf][pretokenizer]") {
  const std::string letters = split(R"({"Regex":"\\p{L}+"})", "Isolated");
  CHECK(cut(letters,
            "1a\U00031350\U00010D50\u1C89"
            "1") == Words{"1", "a\U00031350\U00010D50\u1C89", "1"});
  CHECK(cut(letters,
            "a\U00010940"
            "b") == Words{"a", "\U00010940", "b"});
}

TEST_CASE("a stop is heeded", "[hf][pretokenizer]") {
  const Json j = parse_json(split(R"({"String":" "})", "Isolated"), "t");
  const Pretokenizer p(&j, "t");
  Pretokenizer::Scratch scratch(p);
  int n = 0;
  CHECK_FALSE(p.split("a b c d", scratch, [&](const Piece&) { return ++n < 3; }));
  CHECK(n == 3);
}

TEST_CASE("other pre-tokenizers are refused by name", "[hf][pretokenizer]") {
  for (const char* type : {"Whitespace", "WhitespaceSplit", "Metaspace", "BertPreTokenizer", "Punctuation",
                           "CharDelimiterSplit", "UnicodeScripts", "FixedLength"})
    CHECK_THROWS_WITH(cut(std::string(R"({"type":")") + type + "\"}", "a"), ContainsSubstring(type));
  CHECK_THROWS_WITH(cut(split(kDash, "Sideways"), "a"), ContainsSubstring("Sideways"));
  CHECK_THROWS_WITH(cut(split(R"({"Regex":"("})", "Isolated"), "a"), ContainsSubstring("unclosed group"));
  CHECK_THROWS_WITH(cut(split(R"({"Glob":"*"})", "Isolated"), "a"),
                    ContainsSubstring("\"String\" is missing"));
  CHECK_THROWS_WITH(cut(R"({"type":"Digits"})", "a"), ContainsSubstring("individual_digits"));
  CHECK_THROWS_WITH(cut(R"({"type":"Sequence","pretokenizers":[)" + byte_level(false, false) + "," +
                            split(kDash, "Isolated") + "]}",
                        "a"),
                    ContainsSubstring("ByteLevel is not the last"));
}
