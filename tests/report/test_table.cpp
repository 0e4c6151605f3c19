#include "catch.h"
#include "report/number.h"
#include "report/table.h"

#include <cmath>
#include <limits>
#include <stdexcept>

using namespace blockgtq;

TEST_CASE("a table as text: numbers to the right, words to the left, no trailing spaces") {
  Table table({"model", "MAE"});
  table.row({"llama", "1.5"});
  table.row({"größer", "-12.25"});
  table.row({"x", ""});
  CHECK(table.text() ==
        "model      MAE\n"
        "──────  ──────\n"
        "llama      1.5\n"
        "größer  -12.25\n"
        "x\n");
}

TEST_CASE("widths count what a terminal draws") {
  Table table({"a", "b"});
  table.row({"模型", "x"});       // two columns each
  table.row({"e\xcc\x81", "x"});  // e and a combining accent: one column
  CHECK(table.text() == "a     b\n────  ─\n模型  x\ne\xcc\x81     x\n");
}

TEST_CASE("control characters cannot reach a terminal or end a Markdown row") {
  Table table({"name"});
  table.row({"a\x1b[31m\nb"});
  CHECK(table.text() == "name\n────────\na [31m b\n");
  CHECK(table.markdown() == "| name      |\n| --------- |\n| a \\[31m b |\n");
}

TEST_CASE("Markdown escapes what it would read as markup") {
  Table table({"name", "n"});
  table.row({"a|b<c>*`\\&", "7"});
  CHECK(table.markdown() ==
        "| name             |   n |\n"
        "| ---------------- | --: |\n"
        "| a\\|b\\<c>\\*\\`\\\\\\& |   7 |\n");
}

TEST_CASE("CSV as RFC 4180 has it") {
  Table table({"a", "b"});
  table.row({"plain", "1,5"});
  table.row({"say \"x\"", "two\nlines"});
  table.row({"", " "});
  CHECK(table.csv() == "a,b\r\nplain,\"1,5\"\r\n\"say \"\"x\"\"\",\"two\nlines\"\r\n, \r\n");
}

TEST_CASE("a row of another length is a defect") {
  Table table({"a", "b"});
  CHECK_THROWS_AS(table.row({"1"}), std::logic_error);
  CHECK_THROWS_AS(table.row({"1", "2", "3"}), std::logic_error);
  CHECK(table.csv() == "a,b\r\n");
  CHECK(Table({"a"}).text() == "a\n─\n");
}

TEST_CASE("a table for a terminal: text is cut, then columns go below each other") {
  Table table({"model", "method", "MAE", "bytes"});
  table.row({"a-long-name-of-a-model", "block-gtq", "1.25", "1620"});
  table.row({"énorme-modèle", "tq-mse", "2.5", "816"});
  CHECK(table.text(80) == table.text());
  CHECK(table.text(0) == table.text());
  CHECK(table.text(38) ==
        "model           method      MAE  bytes\n"
        "──────────────  ─────────  ────  ─────\n"
        "a-long-name-o…  block-gtq  1.25   1620\n"
        "énorme-modèle   tq-mse      2.5    816\n");
  CHECK(table.text(20) ==
        "model     method\n"
        "────────  ────────\n"
        "a-long-…  block-g…\n"
        "énorme-…  tq-mse\n"
        "\n"
        "model      MAE\n"
        "────────  ────\n"
        "a-long-…  1.25\n"
        "énorme-…   2.5\n"
        "\n"
        "model     bytes\n"
        "────────  ─────\n"
        "a-long-…   1620\n"
        "énorme-…    816\n");
}

TEST_CASE("three significant digits") {
  CHECK(three_digits(0) == "0");
  CHECK(three_digits(1.2) == "1.20");
  CHECK(three_digits(-1.2) == "-1.20");
  CHECK(three_digits(9.994) == "9.99");
  CHECK(three_digits(9.996) == "10.0");  // one digit more before the point, one less behind it
  CHECK(three_digits(2.125) == "2.13");  // halves up, whatever the last bit of a mean
  CHECK(three_digits(std::nextafter(3.125, 0)) == "3.13");
  CHECK(three_digits(std::nextafter(3.125, 4)) == "3.13");
  CHECK(three_digits(99.96) == "100");
  CHECK(three_digits(1632.4) == "1632");
  CHECK(three_digits(0.01234) == "0.0123");
  CHECK(three_digits(0.0001) == "0.000100");
  CHECK(three_digits(0.00001) == "1.00e-05");
  CHECK(three_digits(1e9) == "1.00e+09");
  CHECK(three_digits(std::nan("")).empty());
  CHECK(three_digits(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(percent(0.1814) == "18.1 %");
  CHECK(percent(-0.0001) == "0.0 %");
  CHECK(percent(std::nan("")).empty());
}

TEST_CASE("exact numbers read back as the same double") {
  for (double v : {0.1, 1.0 / 3, 3.0, 1e-300, 123456789.123456789, 2.5}) CHECK(std::stod(exact(v)) == v);
  CHECK(exact(3) == "3");
  CHECK(exact(0.1) == "0.1");
}
