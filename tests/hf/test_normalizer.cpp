#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch.h"
#include "hf/normalizer.h"
#include "hf/unicode_tables.h"

using namespace blockgtq;

namespace {

std::string normalize(const std::string& json, const std::string& text) {
  const Json j = parse_json(json, "t");
  std::string out;
  return Normalizer(&j, "t").apply(text, out) ? out : text;
}

std::string nfc(const std::string& text) {
  return normalize(R"({"type":"NFC"})", text);
}

}  // namespace

TEST_CASE("normalization forms", "[hf][normalizer]") {
  CHECK(nfc("plain ASCII\n") == "plain ASCII\n");
  CHECK(nfc("e\u0301") == "\u00e9");
  CHECK(nfc("xe\u0301\u0301 e\u0323\u0301y") == "x\u00e9\u0301 \u1eb9\u0301y");
  CHECK(nfc("q\u0307\u0323") == "q\u0323\u0307");
  CHECK(nfc("\u1100\u1161\u11a8") == "\uac01");
  CHECK(nfc("\uac00\u11a8") == "\uac01");                          // a syllable and a trailing consonant
  CHECK(nfc("\u1101\u1161\u11a7\u11a8") == "\uae4c\u11a7\u11a8");  // U+11A7 is no consonant
  CHECK(nfc("\uac00\u11a7") == "\uac00\u11a7");
  CHECK(nfc("\u304b\u3099") == "\u304c");
  CHECK(nfc("\u212b\uf900\u0958") == "\u00c5\u8c48\u0915\u093c");
  CHECK(nfc("<\u0338") == "\u226e");  // an ASCII sign that composes
  CHECK(nfc(std::string("a\0e\u0301", 5)) == std::string("a\0\u00e9", 4));
  CHECK(normalize(R"({"type":"NFD"})", "\u00e9\uac01") == "e\u0301\u1100\u1161\u11a8");
  CHECK(normalize(R"({"type":"NFKC"})", "\ufb01\u00a0\u2460e\u0301") == "fi 1\u00e9");
  CHECK(normalize(R"({"type":"NFKD"})", "\ufb01\u00e9") == "fie\u0301");
  CHECK(normalize(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"NFC"}]})", "e\u0301") ==
        "\u00e9");
  CHECK(normalize(R"({"type":"Sequence","normalizers":[]})", "e\u0301") == "e\u0301");
}

TEST_CASE("Prepend and Replace", "[hf][normalizer]") {
  const std::string prepend = R"({"type":"Prepend","prepend":"\u2581"})",
                    replace = R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"})";
  CHECK(normalize(prepend, "a b") == "\u2581a b");
  CHECK(normalize(prepend, "") == "");
  CHECK(normalize(prepend, "\u2581a") ==
        "\u2581\u2581"
        "a");
  CHECK(normalize(replace, " a  b") ==
        "\u2581"
        "a\u2581\u2581"
        "b");
  CHECK(normalize(replace, "ab") == "ab");
  CHECK(normalize(R"({"type":"Sequence","normalizers":[)" + prepend + "," + replace + "]}", "a b") ==
        "\u2581"
        "a\u2581"
        "b");
  CHECK(normalize(R"({"type":"Replace","pattern":{"String":"aa"},"content":"a"})", "aaaaa") == "aaa");
  CHECK(normalize(R"({"type":"Replace","pattern":{"Regex":"[0-9]+\\s?"},"content":"#"})", "1a22 b") ==
        "#a#b");
  CHECK(normalize(R"({"type":"Replace","pattern":{"Regex":"e|"},"content":"-"})", "abec") == "-a-b-c-");
  CHECK(normalize(R"({"type":"Replace","pattern":{"String":""},"content":"-"})", "abc") == "-a-b-c-");
  CHECK_THROWS_WITH(normalize(R"({"type":"Replace","pattern":" ","content":"-"})", "a"),
                    ContainsSubstring("t: not an object"));
  CHECK_THROWS_WITH(normalize(R"({"type":"Prepend"})", "a"), ContainsSubstring("\"prepend\" is missing"));
}

TEST_CASE("long runs of combining marks take linear time", "[hf][normalizer]") {
  const auto start = std::chrono::steady_clock::now();
  std::string same = "e", mixed = "q", below, above;
  for (int i = 0; i < 400'000; ++i) {
    same += "\u0301";
    mixed += i % 2 ? "\u0323" : "\u0307";  // of classes 230 and 220: the second goes first
    below += i % 2 ? "\u0323" : "";
    above += i % 2 ? "" : "\u0307";
  }
  CHECK((nfc(same) == "\u00e9" + same.substr(3)));  // a comparison inside would print them
  CHECK((nfc(mixed) == "q" + below + above));
  CHECK((normalize(R"({"type":"NFKD"})", mixed) == "q" + below + above));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 5);  // some 0.1 s; exchanging neighbours would take a quarter of an hour
}

TEST_CASE("code points newer than Unicode 9 are left as they are", "[hf][normalizer]") {
  CHECK(nfc("\U00011935\U00011930") == "\U00011935\U00011930");  // composes since Unicode 13
  CHECK(nfc("a\U0001E2AE\u0334") ==
        "a\U0001E2AE\u0334");  // a mark of Unicode 14: nothing is sorted across it
  CHECK(normalize(R"({"type":"NFKC"})", "\u32ff") == "\u32ff");  // the era name of Unicode 12.1
}

TEST_CASE("other normalizers are refused by name", "[hf][normalizer]") {
  for (const char* type :
       {"Lowercase", "Strip", "StripAccents", "Precompiled", "ByteLevel", "BertNormalizer", "Nmt"})
    CHECK_THROWS_WITH(normalize(std::string(R"({"type":")") + type + "\"}", "a"), ContainsSubstring(type));
  CHECK_THROWS_WITH(normalize(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]})", "a"),
                    ContainsSubstring("Nmt"));
  CHECK_THROWS_WITH(normalize(R"({"type":"Sequence"})", "a"),
                    ContainsSubstring("\"normalizers\" is missing"));
  CHECK_THROWS_WITH(normalize("[]", "a"), ContainsSubstring("not an object"));
}

TEST_CASE("tables of code points are sorted", "[hf][normalizer]") {
  const auto sorted = [](const auto* rows, size_t n) {
    for (size_t i = 0; i < n; ++i)
      if (rows[i].first > rows[i].last || (i > 0 && rows[i - 1].last >= rows[i].first)) return false;
    return n > 0;
  };
  CHECK(sorted(kReplaced, kReplacedCount));
  CHECK(sorted(kInert, kInertCount));
  CHECK(sorted(kNumeric, kNumericCount));
  CHECK(sorted(kWord, kWordCount));
  CHECK(is_word('_'));
  CHECK(is_word(0x200D));
  CHECK_FALSE(is_word('-'));
  CHECK(is_numeric(0xBD));
  CHECK_FALSE(is_numeric('a'));
}
