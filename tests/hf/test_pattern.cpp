// How expressions written for Oniguruma match. Expectations are the `onig` crate's, as the `tokenizers`
// library uses it.
#include <chrono>

#include "base/error.h"
#include "catch.h"
#include "hf/pattern.h"
#include "hf/pattern_syntax.h"

using namespace blockgtq;

namespace {

std::vector<std::string> matches(const std::string& expression, const std::string& text) {
  const Pattern pattern(to_pcre2(expression, "t"), "t");
  Matches m(pattern);
  m.start(text);
  std::vector<std::string> out;
  for (size_t begin, end; m.next(begin, end);) out.push_back(text.substr(begin, end - begin));
  return out;
}

using Words = std::vector<std::string>;

const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

TEST_CASE("white space is Unicode's White_Space", "[hf][pattern]") {
  // PCRE2's own \s holds U+180E.
  CHECK(matches(R"(\s)", "\xE1\xA0\x8E\xC2\x85\xC2\xA0\xE3\x80\x80\xE2\x80\x8B\x0B") ==
        Words{"\xC2\x85", "\xC2\xA0", "\xE3\x80\x80", "\x0B"});
  CHECK(matches(R"(\S+)",
                "a\xC2\x85"
                "b\xE1\xA0\x8E") == Words{"a", "b\xE1\xA0\x8E"});
  CHECK(matches(R"([^\s]+)",
                "a\xE3\x80\x80"
                "b") == Words{"a", "b"});
  CHECK(matches(R"([\S\n]+)", "a\n b") == Words{"a\n", "b"});
  CHECK(matches(R"([^\S\n]+)", "a \t\n b") == Words{" \t", " "});
}

TEST_CASE("contractions fold case as Oniguruma does", "[hf][pattern]") {
  CHECK(matches("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'S'\xC5\xBF'Re'vE'LL'x's") ==
        Words{"'S", "'\xC5\xBF", "'Re", "'vE", "'LL", "'s"});
  CHECK(matches("(?i:[k-l])", "K\xE2\x84\xAAL") == Words{"K", "\xE2\x84\xAA", "L"});
}

TEST_CASE("quantifiers of Ruby's syntax", "[hf][pattern]") {
  CHECK(matches("a{,2}b", "aaab b") == Words{"aab", "b"});
  CHECK(matches("a{2}?", "aaa").front() == "aa");                       // (?:a{2})?, not a lazy one
  CHECK(matches(R"(\d{1,3}+)", "1234567 8") == Words{"1234567", "8"});  // repeated, not possessive
  CHECK(matches("a++b|a", "aaab") == Words{"aaab"});
  CHECK(matches("a{x", "a{x") == Words{"a{x"});
  CHECK(matches("a+?", "aa") == Words{"a", "a"});
}

TEST_CASE("lines, sets, properties, groups", "[hf][pattern]") {
  CHECK(matches("^.*$", "ab\ncd\r\n") == Words{"ab", "cd\r"});
  CHECK(matches(R"([a\-z\]]+)", "a-z]b") == Words{"a-z]"});
  CHECK(matches(R"([-a]+)", "b-a") == Words{"-a"});
  CHECK(matches(R"(\p{^L}\P{^N}\P{L})", "-1-") == Words{"-1-"});
  CHECK(matches(R"(\x41\u0042\x{1F600}(a|b)(?>c+)(?=d)(?!e))",
                "AB\xF0\x9F\x98\x80"
                "accd") == Words{"AB\xF0\x9F\x98\x80"
                                 "acc"});
}

TEST_CASE("empty matches", "[hf][pattern]") {
  // One at the end of the match before does not count.
  CHECK(matches("a*", "baac") == Words{"", "aa", ""});
  CHECK(matches("a*", "").size() == 1);
  CHECK(matches("x|", "\xC3\xA9") == Words{"", ""});
}

TEST_CASE("what is not supported is refused by name", "[hf][pattern]") {
  for (const char* bad : {R"(\w+)",
                          R"(\bword)",
                          R"((?<=a)b)",
                          R"((?<!a)b)",
                          R"((?<name>a))",
                          R"((a)\1)",
                          R"((?i)a)",
                          R"((?m:a))",
                          R"([a&&b])",
                          R"([[:alpha:]])",
                          R"([a[b]])",
                          "[]a]",
                          "[",
                          "[a",
                          "(",
                          ")",
                          "(a",
                          "a)",
                          "*",
                          "a**",
                          "a{2}{3}",
                          "(?=a)+",
                          R"(\p{Han})",
                          R"(\p{Greek})",
                          R"(\pL)",
                          R"(\p{L)",
                          R"(\h)",
                          R"(\R)",
                          R"(\xC3)",
                          R"(\x{110000})",
                          R"(\x{D800})",
                          R"(\u12)",
                          "\\",
                          "[z-a]",
                          R"([a-\d])",
                          R"([\d-z])",
                          "a{3,2}",
                          "a{65536}",
                          "(?i:ss)",
                          "(?i:fi)",
                          "(?i:\xC3\xA9)",
                          R"((?i:\p{Lu}))",
                          "(?i:[^a])",
                          "(?i:(a))",
                          "(?i:s+)"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(to_pcre2(bad, "t"), Error);
  }
  CHECK_NOTHROW(to_pcre2("a{65535}", "t"));
  CHECK_THROWS_WITH(to_pcre2(R"(a\wb)", "x.json: pre_tokenizer"),
                    ContainsSubstring(R"(x.json: pre_tokenizer: the pattern has the escape \w at byte 3)"));
  CHECK_NOTHROW(to_pcre2(std::string(64, '(') + std::string(64, ')'), "t"));
  CHECK_THROWS_WITH(to_pcre2(std::string(65, '(') + std::string(65, ')'), "t"),
                    ContainsSubstring("groups more than 64"));
}

TEST_CASE("code points by number are those, whatever Unicode holds of them", "[hf][pattern]") {
  // As in DeepSeek-V2, where U+0294 is no letter and U+0295, which is another kind of letter since Unicode
  // 16, is.
  CHECK(matches("\\s?[A-Za-z\u00b5\u01c4-\u0293\u0295-\u02af]+", "a\u0293\u0294\u0295\u0296 x\u0294") ==
        Words{"a\u0293", "\u0295\u0296", " x"});
  // U+1C89 is new in Unicode 16; where there are categories, it is searched as U+1C90.
  CHECK(matches("\u1c89", "\u1c88\u1c89\u1c90") == Words{"\u1c89"});
  CHECK(matches("[^\u1c89]", "\u1c89\u1c90") == Words{"\u1c90"});
  CHECK(matches("[\\p{Lu}\u1c80-\u1caf]+", "\u1c89\u1c90x") == Words{"\u1c89\u1c90"});
  CHECK_THROWS_WITH(to_pcre2("\u1c89|\\p{L}", "t"), ContainsSubstring("categories, and U+1C89..U+1C89 told"));
  CHECK_THROWS_WITH(to_pcre2("\\d[\u1c80-\u1c89]", "t"), ContainsSubstring("U+1C89"));
}

TEST_CASE("long runs take linear time", "[hf][pattern]") {
  const auto start = std::chrono::steady_clock::now();
  const std::string spaces(1'000'000, ' ');
  CHECK(matches(kLlama3, spaces).size() == 1);
  CHECK(matches(kLlama3, spaces + "x") == Words{spaces.substr(1), " x"});
  CHECK(matches(kLlama3, std::string(1'000'000, 'a')).size() == 1);
  CHECK(matches(kLlama3, std::string(300'000, '1')).size() == 100'000);
  CHECK(matches(R"(\d{1,3}+)", std::string(1'000'000, '1')).size() == 1);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 5);  // some 0.1 s; a quadratic search would take hours
}

TEST_CASE("matches longer than the first window of a search", "[hf][pattern]") {
  for (size_t n = 240; n < 280; ++n) {
    CAPTURE(n);
    const std::string a(n, 'a'), spaces(n, ' ');
    CHECK(matches(kLlama3, a + spaces + "b") == Words{a, spaces.substr(1), " b"});
    CHECK(matches(kLlama3, a + spaces) == Words{a, spaces});
    CHECK(matches("a+$", a + "\n" + a) == Words{a, a});
    CHECK(matches("^b|a\u00e9|x", a + "\u00e9" + a + "x" + a + "\u00e9") == Words{"a\u00e9", "x", "a\u00e9"});
    CHECK(matches("b*", "a" + std::string(n, 'b')) == Words{"", std::string(n, 'b')});
    CHECK(matches("a+c|a{2}", a + "b").size() == n / 2);
    CHECK(matches("q", a + "q" + a + a + a + "q" + a).size() == 2);
  }
}

TEST_CASE("a pattern that runs away is an error", "[hf][pattern]") {
  const auto start = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(matches(R"((?:a+)+\d)", std::string(200, 'a')), ContainsSubstring("limit"));
  // The budget is that of the text: every match looks at all of it and takes one byte, in a loop that counts
  // steps and in one that does not.
  const std::string text(160'000, 'a');
  CHECK_THROWS_WITH(matches("(?:a|b)*c|a", text),
                    ContainsSubstring("t: the pattern takes too long on this text"));
  CHECK_THROWS_WITH(matches("[abc]*c|a", text), ContainsSubstring("limit: 30240000 steps"));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 10);  // some 0.5 s
}
