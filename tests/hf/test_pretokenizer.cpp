// Where words end. Expectations are those of the `tokenizers` library.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch.h"
#include "hf/pretokenizer.h"

using namespace blockgtq;

namespace {

using Words = std::vector<std::string>;

Words cut(const std::string& json, const std::string& text, bool at_start = true) {
  const Json j = parse_json(json, "t");
  const Pretokenizer p(j.is_null() ? nullptr : &j, "t");
  Pretokenizer::Scratch scratch(p);
  Words out;
  p.split(text, at_start, scratch, [&](const Piece& piece) {
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

std::string metaspace(const std::string& scheme, bool split) {
  return R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":")" + scheme + R"(","split":)" +
         (split ? "true}" : "false}");
}

std::string sequence(const Words& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : ",") + part;
  return R"({"type":"Sequence","pretokenizers":[)" + all + "]}";
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

TEST_CASE("Punctuation", "[hf][pretokenizer]") {
  const auto punctuation = [](const std::string& behavior) {
    return R"({"type":"Punctuation","behavior":")" + behavior + "\"}";
  };
  const std::string text = "a,,b\u3002\u00bf +$c!";  // all of ASCII's marks, of others what Unicode calls so
  CHECK(cut(R"({"type":"Punctuation"})", text) ==
        Words{"a", ",", ",", "b", "\u3002", "\u00bf", " ", "+", "$", "c", "!"});
  CHECK(cut(punctuation("Isolated"), text) == cut(R"({"type":"Punctuation"})", text));
  CHECK(cut(punctuation("Removed"), text) == Words{"a", "b", " ", "c"});
  CHECK(cut(punctuation("MergedWithPrevious"), text) ==
        Words{"a,", ",", "b\u3002", "\u00bf", " +", "$", "c!"});
  CHECK(cut(punctuation("MergedWithNext"), text) ==
        Words{"a", ",", ",b", "\u3002", "\u00bf ", "+", "$c", "!"});
  CHECK(cut(punctuation("Contiguous"), text) == Words{"a", ",,", "b", "\u3002\u00bf", " ", "+$", "c", "!"});
  CHECK(cut(punctuation("Isolated"), "\u00a3\u20ac\u2e43") == Words{"\u00a3\u20ac\u2e43"});  // none
  CHECK_THROWS_WITH(cut(punctuation("Sideways"), text), ContainsSubstring("Sideways"));
}

TEST_CASE("Whitespace and WhitespaceSplit", "[hf][pretokenizer]") {
  const std::string text = " don't\u3000\u00e9t\u00e9_1 ...\u200dx";
  CHECK(cut(R"({"type":"Whitespace"})", text) == Words{"don", "'", "t", "\u00e9t\u00e9_1", "...", "\u200dx"});
  CHECK(cut(R"({"type":"WhitespaceSplit"})", text) == Words{"don't", "\u00e9t\u00e9_1", "...\u200dx"});
  CHECK(cut(R"({"type":"Whitespace"})", " ") == Words{});
}

TEST_CASE("Metaspace", "[hf][pretokenizer]") {
  CHECK(cut(metaspace("always", true),
            "ab  c\u2581"
            "d") == Words{"+ab", " ", " c",
                          "\u2581"
                          "d"});
  CHECK(cut(metaspace("always", false), "ab  c") == Words{"+ab  c"});
  CHECK(cut(metaspace("always", true), " ab") == Words{" ab"});
  CHECK(cut(metaspace("always", true),
            "\u2581"
            "ab ") == Words{"\u2581"
                            "ab",
                            " "});
  CHECK(cut(metaspace("always", true), "ab", false) == Words{"+ab"});
  CHECK(cut(metaspace("first", true), "ab c", true) == Words{"+ab", " c"});
  CHECK(cut(metaspace("first", true), "ab c", false) == Words{"ab", " c"});
  CHECK(cut(metaspace("never", true), "ab c") == Words{"ab", " c"});
  CHECK(cut(R"({"type":"Metaspace","replacement":"_","add_prefix_space":true})", "a_b") == Words{"+a", "_b"});
  CHECK(cut(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false,"prepend_scheme":"never"})",
            "a") == Words{"a"});
  CHECK(cut(sequence({split(kDash, "Removed"), metaspace("always", true)}), "a b-c") ==
        Words{"+a", " b", "+c"});
  CHECK(cut(sequence({split(kDash, "Removed"), metaspace("first", true)}), "a b-c") ==
        Words{"+a", " b", "c"});
}

TEST_CASE("what stands behind ByteLevel sees its alphabet", "[hf][pretokenizer]") {
  // Falcon's. The bytes C2 B2 of a superscript two are U+00C2 and U+00B2 there, and the second is a number.
  const std::string falcon =
      sequence({R"({"type":"Punctuation","behavior":"Contiguous"})", byte_level(false, true),
                R"({"type":"Digits","individual_digits":false})",
                split(R"({"Regex":"[0-9][0-9][0-9]"})", "Isolated")});
  CHECK(cut(falcon, "in 12345, x\u00b2!!") == Words{"in", " ", "123", "45", ",", " x", "\xC2", "\xB2", "!!"});
  CHECK(cut(sequence({byte_level(true, false), split(R"({"String":"\u0120"})", "MergedWithNext")}), "ab c") ==
        Words{"+ab", " c"});
  CHECK(cut(sequence({byte_level(true, false), split(R"({"String":"\u0120"})", "Removed")}), "ab c") ==
        Words{"ab", "c"});
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
  CHECK_FALSE(p.split("a b c d", true, scratch, [&](const Piece&) { return ++n < 3; }));
  CHECK(n == 3);
}

TEST_CASE("other pre-tokenizers are refused by name", "[hf][pretokenizer]") {
  for (const char* type : {"BertPreTokenizer", "CharDelimiterSplit", "UnicodeScripts", "FixedLength"})
    CHECK_THROWS_WITH(cut(std::string(R"({"type":")") + type + "\"}", "a"), ContainsSubstring(type));
  CHECK_THROWS_WITH(cut(split(kDash, "Sideways"), "a"), ContainsSubstring("Sideways"));
  CHECK_THROWS_WITH(cut(split(R"({"Regex":"("})", "Isolated"), "a"), ContainsSubstring("unclosed group"));
  CHECK_THROWS_WITH(cut(split(R"({"Glob":"*"})", "Isolated"), "a"),
                    ContainsSubstring("\"String\" is missing"));
  CHECK_THROWS_WITH(cut(R"({"type":"Digits"})", "a"), ContainsSubstring("individual_digits"));
  CHECK_THROWS_WITH(cut(sequence({byte_level(false, false), byte_level(false, false)}), "a"),
                    ContainsSubstring("2 of ByteLevel and Metaspace"));
  CHECK_THROWS_WITH(cut(sequence({metaspace("always", true), split(kDash, "Isolated")}), "a"),
                    ContainsSubstring("Metaspace is not the last"));
  CHECK_THROWS_WITH(cut(metaspace("sometimes", true), "a"), ContainsSubstring("sometimes, allowed: always"));
  CHECK_THROWS_WITH(cut(R"({"type":"Metaspace","replacement":"ab"})", "a"),
                    ContainsSubstring("\"replacement\" is not one character"));
  CHECK_THROWS_WITH(cut(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false})", "a"),
                    ContainsSubstring("add_prefix_space is false and the prepend_scheme always"));
}
