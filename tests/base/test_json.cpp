#include "base/json.h"

#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "catch.h"
#include "expect_error.h"
#include "temp_folder.h"

using namespace blockgtq;

namespace {

std::string nested(int depth, const std::string& open, const std::string& inside, const std::string& close) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += open;
  text += inside;
  for (int i = 0; i < depth; ++i) text += close;
  return text;
}

std::string refuse(std::string_view text) {
  return expect_error(Exit::input, [&] { parse_json(text, "f.json"); });
}

}  // namespace

TEST_CASE("values of every kind") {
  const Json v =
      parse_json(R"( {"b": [1, -2, 2.5, 1e3, true, false, null, "x"], "a": {}, "": []} )", "f.json");
  REQUIRE(v.is_object());
  CHECK(v.size() == 3);
  CHECK(v.begin().key() == "b");  // the file's order
  const Json& b = v["b"];
  REQUIRE(b.size() == 8);
  CHECK(b[0].is_number_unsigned());
  CHECK(b[1] == -2);
  CHECK(b[2] == 2.5);
  CHECK(b[3].is_number_float());
  CHECK(b[3] == 1000.0);
  CHECK(b[4] == true);
  CHECK(b[5] == false);
  CHECK(b[6].is_null());
  CHECK(b[7] == "x");
  CHECK(v["a"] == Json::object());
  CHECK(v[""] == Json::array());
  CHECK(parse_json("\"\\u00e4\\ud834\\udd1e\\u0000/\\/\"", "f") == std::string("ä\xf0\x9d\x84\x9e\0//", 9));
  CHECK(parse_json("0", "f") == 0);
}

TEST_CASE("numbers at the edges of what we hold") {
  CHECK(parse_json("18446744073709551615", "f").get<uint64_t>() == std::numeric_limits<uint64_t>::max());
  CHECK(parse_json("-9223372036854775808", "f").get<int64_t>() == std::numeric_limits<int64_t>::min());
  CHECK(parse_json("18446744073709551616", "f").is_number_float());
  CHECK(parse_json("18446744073709551616", "f") == 18446744073709551616.0);
  CHECK(parse_json("1.7976931348623157e308", "f") == std::numeric_limits<double>::max());
  CHECK(parse_json("1e-400", "f") == 0.0);
  CHECK(refuse("[1,\n 1e999]") ==
        "f.json: not valid JSON: line 2, column 6: number overflow parsing '1e999'");
  CHECK_THAT(refuse("-1e999"), ContainsSubstring("number overflow"));
  const std::string long_number(100000, '9');
  CHECK(refuse(long_number).size() < 300);
}

TEST_CASE("errors name file, line and column") {
  CHECK(refuse("{\"a\": 1,\n  \"b\": }") ==
        "f.json: not valid JSON: line 2, column 8: syntax error while parsing value - unexpected '}'; "
        "expected '[', "
        "'{', or a literal");
  // Columns count characters: the colon is missing at the third, which is the fifth byte.
  CHECK_THAT(refuse("[\"ä\" 1]"), ContainsSubstring("line 1, column 6: "));
  CHECK_THAT(refuse(""), ContainsSubstring("line 1, column 1: "));
  CHECK_THAT(refuse("[1,"), ContainsSubstring("line 1, column 4: "));
  CHECK_THAT(refuse("[1]\n\n x"), ContainsSubstring("line 3, column 2: "));
  // The parser quotes what it read; a string of megabytes must not become the message.
  CHECK(refuse("\"" + std::string(1 << 20, 'a')).size() < 300);
}

TEST_CASE("an object's keys are different") {
  CHECK(refuse("{\"a\": 1,\n \"b\": {\"x\": 1, \"y\": 2, \"x\": 1}}") ==
        "f.json: duplicate JSON key: line 2, column 26: \"x\"");
  CHECK_THAT(refuse(R"({"a": 1, "\u0061": 1})"), ContainsSubstring("duplicate JSON key"));
  CHECK_THAT(refuse(R"({"": 1, "": 1})"), ContainsSubstring("duplicate JSON key"));
  CHECK_NOTHROW(parse_json(R"([{"a": {"a": 1}}, {"a": 1}])", "f"));
  CHECK_NOTHROW(
      parse_json("{\"\xc3\xa4\": 1, \"a\xcc\x88\": 2}", "f"));  // the same text in NFC and NFD: two keys

  // Objects of every size around the one where the way of looking changes, the pair at every place.
  for (int n = 2; n <= 40; ++n) {
    for (int again = 1; again < n; ++again) {
      std::string good = "{", bad = "{";
      for (int i = 0; i < n; ++i) {
        const std::string comma = i ? "," : "";
        good += comma + "\"k" + std::to_string(i) + "\":0";
        bad += comma + "\"k" + std::to_string(i == again ? 0 : i) + "\":0";
      }
      REQUIRE_NOTHROW(parse_json(good + "}", "f"));
      REQUIRE_THROWS_AS(parse_json(bad + "}", "f"), Error);
    }
  }
  const std::string key(1000, 'k');
  CHECK(refuse("{\"" + key + "\":1,\"" + key + "\":1}").size() < 200);
}

TEST_CASE("64 levels are read, 65 are not") {
  CHECK_NOTHROW(parse_json(nested(64, "[", "", "]"), "f"));
  CHECK_NOTHROW(parse_json(nested(64, "{\"a\":", "1", "}"), "f"));
  CHECK(refuse(nested(65, "[", "", "]")) ==
        "f.json: JSON nested too deep: line 1, column 65: more than 64 levels");
  CHECK_THAT(refuse(nested(65, "{\"a\":", "1", "}")), ContainsSubstring("nested too deep"));
  CHECK_NOTHROW(parse_json("[" + nested(63, "[", "", "]") + "," + nested(63, "[", "", "]") + "]", "f"));
  CHECK_THAT(refuse(std::string(1'000'000, '[')), ContainsSubstring("nested too deep"));
}

TEST_CASE("a byte order mark and zero bytes are refused") {
  CHECK(refuse("\xef\xbb\xbf{}") == "f.json: not valid JSON: line 1, column 1: a byte order mark");
  using namespace std::string_view_literals;
  CHECK(refuse("{}\n\0garbage"sv) == "f.json: not valid JSON: line 2, column 1: a zero byte");
  CHECK_THAT(refuse("[1,\0 2]"sv), ContainsSubstring("a zero byte"));
  CHECK_THAT(refuse("\"a\0\""sv), ContainsSubstring("a zero byte"));
  CHECK_THAT(refuse("[\"\\\0\"]"sv), ContainsSubstring("a zero byte"));
  // UTF-16 of either order, with and without its mark.
  for (const std::string_view text : {"\xff\xfe[\0]\0"sv, "\xfe\xff\0[\0]"sv, "[\0]\0"sv, "\0[\0]"sv})
    CHECK(refuse(text).find('\n') == std::string::npos);
}

// Cases of the public JSONTestSuite (Nicolas Seriot, MIT licence), those that tell parsers apart.
TEST_CASE("texts that are JSON") {
  for (const char* text :
       {"[[]   ]",
        "[\"\"]",
        "[1\n]",
        " [1]",
        "[2] ",
        "[123e65]",
        "[0e+1]",
        "[ 4]",
        "[-0]",
        "[1E+2]",
        "[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
        "{\"foo\\u0000bar\": 42}",
        "[\"\\u0060\\u012a\\u12AB\"]",
        "[\"\\uD801\\udc37\"]",
        "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
        "[\"\\\\u0000\"]",
        "[\"a/*b*/c/*d//e\"]",
        "[\"\\uFFFF\"]",
        "[\"\xf4\x8f\xbf\xbf\"]",
        "[\"\xef\xbf\xbf\"]",
        "[\"\xe2\x80\xa8\"]",
        "[\"\x7f\"]",
        "[\"\\uDBFF\\uDFFE\"]",
        "false",
        "42",
        "-0.1",
        "null",
        "\"\"",
        "[true]\n",
        "[0E-1]",
        "[12.5e-3]",
        "[1,null , \"a\",{}]",
        "{\"a\":[{\"b\": \"\"}],\n\"c\" :-1.5E+28\r}\t",
        "[\"\\u0000\\u000A\\u0022\\u005C\\u007f\"]",
        "[\"\\u00a0\\u200B\\u2064\\uFDD0\\uFFFE\"]",
        "[\"\\uD83F\\uDFFE \\udbff\\udfff\\ud800\\udc00\"]",
        "[\"\xcf\x80 \xe2\x82\xac \xf0\x9b\xbf\xbf \xe2\x80\xa9\"]"}) {
    INFO(text);
    CHECK_NOTHROW(parse_json(text, "f"));
  }
}

TEST_CASE("texts that are not JSON") {
  for (const char* text :
       {"[1 true]", "[\"\": 1]", "[\"\"],", "[,1]", "[1,,2]", "[\"x\"]]", "[\"\",]", "[\"x\"", "[x", "[3[4]]",
        "[1:2]", "[-]", "[*]", "[\"a\",\n4\n,1,", "[fals]", "[++1234]", "[+1]", "[-01]", "[-1.0.]", "[-2.]",
        "[.2e-3]", "[0.3e+]", "[0e]", "[1 000.0]", "[1eE2]", "[9.e+]", "[Inf]", "[NaN]", "[-Infinity]",
        "[0x1]", "[1+2]", "[-foo]", "[012]", "[1.]", "[1.2a-3]", "{\"x\", null}", "{\"x\"::\"b\"}",
        "{\"a\":\"a\" 123}", "{key: 'value'}", "{\"a\" b}", "{:\"b\"}", "{1:1}", "{\"id\":0,}",
        "{\"a\":\"b\"}/**/", "{\"a\":\"b\"}//", "{\"a\":\"b\",,\"c\":\"d\"}", "{a: \"b\"}", "{\"a\":\"b\"}#",
        " ", "[\"\\uD800\\\"]", "[\"\\uD800\\u\"]", "[\"\\uD800\\u1x\"]", "[\xc3\xa9]", "[\"\\x00\"]",
        "[\"\\\\\\\"]", "[\"\\\t\"]", "[\"\\u00A\"]", "[\"\\a\"]", "[\"\\uqqqq\"]", "[\\u0020\"asd\"]", "\"",
        "['a']", "[\"new\nline\"]", "[\"\t\"]", "\"\\UA66D\"", "\"\"x", "<.>", "[1]x", "[True]", "1]",
        "{\"x\": true,", "[][]", "]", "2@", "{}}", "{\"\":", "{\"a\":/*comment*/\"b\"}", "[\"a", "{]", "[{",
        "{[", "*", "[1\f]", "[,]", "[1,", "{\"a\"", "{\"a\":1", "{,", "[nul]", "[ true, fals", "abc", "['",
        "[+Infinity]", "[-NaN]", "[.5]", "[.-1]", "[-.5]", "[- 1]", "[-012]", "[0.1.2]", "[0.e1]", "[1.e]",
        "[1.0e-]", "[1ea]", "[-1x]", "[0x42]", "[1.5H-3]", "[\xef\xbc\x91]", "{null:null}", "{9E9:1}",
        "{[: 1}", "{\"a\":1,,,}", "{\"a\":1}/", "{\"a\": 1} \"x\"", "{ \"a\" : 1, \"b\" }", "[\\n]",
        "[\\u000A\"\"]", "[\"\\", "[\"\\x\"]", "[\"\\uD800\\uD800\\x\"]", "[<null>]",
        // Bytes that are not UTF-8 outside strings and in escapes; white space that JSON does not have.
        "\xe5", "[\xff]", "[1\xe5]", "[1e1\xe5]", "[\"\\\xe5\"]", "[\"\\u\xe5\"]", "[\"\\\xf0\x9f\x8c\x80\"]",
        "{\xf0\x9f\x87\xa8:1}", "[\xe2\x81\xa0]", "[\x0b]", "[\xc2\xa0]", "\xef\xbb{}", "\xef\xbb\xbf",
        // What the suite leaves open (i_): lone surrogates, bytes that are not UTF-8, too large numbers.
        "[\"\\ud800\"]", "[\"\\uD800\\n\"]", "[\"\\uDd1ea\"]", "[\"\\uDADA\"]", "[\"\\uD888\\u1234\"]",
        "[\"\\uDd1e\\uD834\"]", "[\"\\uDFAA\"]", "{\"\\uDFAA\":0}", "[\"\xff\"]", "[\"\xed\xa0\x80\"]",
        "[\"\xc0\xaf\"]", "[\"\xe0\xff\"]", "[\"\x81\"]", "[\"\xf4\xbf\xbf\xbf\"]",
        "[\"\xfc\x83\xbf\xbf\xbf\xbf\"]", "[-1e+9999]",
        "[0.4e00669999999999999999999999999999999999999999999999999999]"}) {
    INFO(text);
    CHECK(refuse(text).find('\n') == std::string::npos);
  }
}

TEST_CASE("a vocabulary of 300,000 keys is read in linear time") {
  constexpr int kKeys = 300'000;
  std::string text = "{\"model\": {\"vocab\": {";
  for (int i = 0; i < kKeys; ++i) {
    text += (i ? ",\"token" : "\"token") + std::to_string(i) + "\":" + std::to_string(i);
  }
  text += "}}, \"after\": 1}";
  const auto begun = std::chrono::steady_clock::now();
  const Json value = parse_json(text, "f");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  const Json& vocab = value["model"]["vocab"];
  REQUIRE(vocab.size() == kKeys);
  CHECK(std::prev(vocab.end()).key() == "token299999");
  // Comparing each key with all before it would be 4.5e10 comparisons, a minute or more; this takes 0.2 s.
  CHECK(seconds < 10);
}

TEST_CASE("values are counted, and the limit itself is allowed") {
  CHECK(parse_json("[1, [], {\"a\": null}]", "f", 5).size() == 3);
  for (const char* text : {"[1, [], {\"a\": null}]", "[[[[[]]]]]", "[1, 2, 3, 4]"}) {
    CHECK_NOTHROW(parse_json(text, "f", 5));
    CHECK_THAT(expect_error(Exit::input, [&] { parse_json(text, "f", 4); }),
               ContainsSubstring("f: too many JSON values: line 1, column"));
  }
}

TEST_CASE("a string, a number and a gap have a limit") {
  const auto text = [](size_t n, const char* begin, char c, const char* end) {
    return begin + std::string(n - 2, c) + end;
  };
  // The two quotes count; a gap ends with the value behind it, the lexer reads one byte past a number.
  CHECK(parse_json(text(kMaxJsonToken, "\"", 'x', "\""), "f").get<std::string>().size() == kMaxJsonToken - 2);
  CHECK(parse_json(text(kMaxJsonToken, "", ' ', "[]"), "f").empty());
  for (const std::string& bad :
       {text(kMaxJsonToken + 1, "\"", 'x', "\""), text(kMaxJsonToken + 1, "{\"", 'x', "\": 1}"),
        text(2 * kMaxJsonToken, "", '1', ""), text(2 * kMaxJsonToken, "[1,", ' ', "2]")})
    CHECK_THAT(expect_error(Exit::input, [&] { parse_json(bad, "f"); }),
               ContainsSubstring("f: JSON token too long: line 1, column 16777"));
}

TEST_CASE("read_json reads a file up to its limit") {
  const TempFolder folder;
  put_file(folder / "a.json", "{\"a\": 1}");
  CHECK(read_json(folder / "a.json", 8)["a"] == 1);
  CHECK_THAT(expect_error(Exit::input, [&] { read_json(folder / "a.json", 7); }),
             ContainsSubstring("a.json: file too large: 8 bytes, at most 7"));
  put_file(folder / "b.json", "{");
  CHECK_THAT(expect_error(Exit::input, [&] { read_json(folder / "b.json", 8); }),
             ContainsSubstring((folder / "b.json").string() + ": not valid JSON: line 1, column 2"));
}
