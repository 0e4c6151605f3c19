#include <png.h>

#include <set>
#include <stdexcept>

#include "catch.h"
#include "decode.h"
#include "report/image.h"

using namespace blockgtq;

TEST_CASE("a PNG decodes to the pixels it was made of") {
  const int width = 37, height = 11;  // odd: rows that no alignment hides
  std::vector<Rgb> pixels;
  for (int i = 0; i < width * height; ++i)
    pixels.push_back({uint8_t(i * 7), uint8_t(i * 13 + 1), uint8_t(i >> 1)});
  const std::string bytes = encode_png(width, height, pixels);
  const Decoded image = decode_png(bytes);
  CHECK(image.width == width);
  CHECK(image.height == height);
  CHECK(image.pixels == pixels);
  CHECK(encode_png(width, height, pixels) == bytes);
  CHECK(bytes.find("tIME") == std::string::npos);
}

TEST_CASE("the smallest image, and sizes that do not fit") {
  CHECK(decode_png(encode_png(1, 1, {{1, 2, 3}})).pixels == std::vector<Rgb>{{1, 2, 3}});
  CHECK_THROWS_AS(encode_png(0, 1, {}), std::logic_error);
  CHECK_THROWS_AS(encode_png(2, 2, {{1, 2, 3}}), std::logic_error);
}

TEST_CASE("bit widths have eight colours that only grow lighter") {
  std::set<std::string> seen;
  double last = -1;
  for (int b = 1; b <= 8; ++b) {
    const Rgb c = bits_color(b);
    const double light = 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
    CHECK(light > last + 8);  // of 255: a step that is seen in grey too
    last = light;
    seen.insert(hex(c));
  }
  CHECK(seen.size() == 8);
  CHECK(bits_color(1)[2] > bits_color(1)[0]);  // blue
  CHECK(bits_color(8)[0] > bits_color(8)[2]);  // yellow
  CHECK(hex({0, 10, 255}) == "#000aff");
  CHECK_THROWS_AS(bits_color(0), std::logic_error);
  CHECK_THROWS_AS(bits_color(9), std::logic_error);
}
