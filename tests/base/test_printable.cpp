#include "base/printable.h"

#include "catch.h"

using blockgtq::printable;

TEST_CASE("a line that a terminal can show") {
  const std::pair<std::string, const char*> cases[] = {
      {"plain/pa th.json", "plain/pa th.json"},
      {"caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"},
      {"two\nerror: lines\r\n\t", "two\\nerror: lines\\r\\n\\t"},
      {"\x1b[31mred\x07\x7f", "\\x1b[31mred\\x07\\x7f"},
      {std::string("a\0b", 3), "a\\x00b"},
      {"\xc2\x9b"
       "31m",
       "\\u009b31m"},
      {"\xe2\x80\xae\xe2\x80\xa8\xe2\x81\xa6", "\\u202e\\u2028\\u2066"},
      // Not UTF-8: a byte alone, overlong, a surrogate, past the last code point, cut.
      {"\xff|\xe9|\xc0\xaf|\xe0\x80\x80", "\\xff|\\xe9|\\xc0\\xaf|\\xe0\\x80\\x80"},
      {"\xed\xa0\x80|\xf4\x90\x80\x80|\xe4\xb8", "\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80|\\xe4\\xb8"},
  };
  for (const auto& [text, line] : cases) CHECK(printable(text) == line);
  const std::string longest(8000, 'x');
  CHECK(printable(longest) == longest);
  CHECK(printable(longest + "yz") ==
        std::string(4000, 'x') + " [2 bytes left out] " + std::string(3998, 'x') + "yz");
}
