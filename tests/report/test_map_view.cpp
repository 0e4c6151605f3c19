#include "report/map_view.h"

#include <nlohmann/json.hpp>

#include "catch.h"
#include "markup.h"
#include "report/image.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("what a page shows of a map") {
  const BitMap map = sample_map(3, 2, 16, 12);
  const Json view = map_view(map);
  CHECK(view.at("rotary_blocks") == 6);
  REQUIRE(view.at("energy").size() == 3);
  CHECK(view["energy"][2][1].size() == 8);
  CHECK(view["energy"][0][0][1] == 0.5);
  CHECK(view["energy"][0][0][2] == 0.3333);  // four digits
  REQUIRE(view.at("budgets").size() == 1);
  CHECK(view["budgets"][0].at("bits") == 2.5);
  for (int l = 0; l < 3; ++l)
    for (int h = 0; h < 2; ++h) {
      const std::string digits = view["budgets"][0]["layers"][l][h];
      const auto bits = map.head_bits(map.budgets[0], l, h);
      REQUIRE(digits.size() == bits.size());
      for (size_t b = 0; b < bits.size(); ++b) CHECK(digits[b] - '0' == bits[b]);
    }
}

TEST_CASE("bit shares: of every layer they sum to 1") {
  const BitMap map = sample_map(3, 2, 16, 16);
  const Json shares = bit_shares(map);
  REQUIRE(shares.size() == 1);
  for (const Json& layer : shares[0].at("layers")) {
    double sum = 0;
    for (const Json& share : layer) sum += share.get<double>();
    CHECK(sum == Approx(1));
  }
  CHECK(count(share_charts(shares), "<svg ") == 1);
}

TEST_CASE("heat maps of heads: every cell once, one head shown, the others to choose") {
  const BitMap map = sample_map(3, 2, 16, 12);
  const std::string html = map_heads(map_view(map));
  CHECK(markup_error(html) == "");
  CHECK(count(html, "<svg ") == 2);  // energy, bits
  CHECK(count(html, "data-choice=\"0\">") == 2);
  CHECK(count(html, "data-choice=\"1\" style=\"display:none\">") == 2);
  CHECK_THAT(html, ContainsSubstring("data-choose=\"KV head\"") && ContainsSubstring("static from 6"));
  // the strokes of the bits of head 1 cover 3 layers of 8 blocks, each in its colour
  const size_t bits = html.find("Bits of blocks"), begin = html.find("data-choice=\"1\"", bits);
  const std::string head = html.substr(begin, html.find("</g>", begin) - begin);
  int covered = 0;
  for (size_t at = head.find('h', head.find("d=")); at != std::string::npos; at = head.find('h', at + 1))
    if (head[at - 1] == '5') covered += std::stoi(head.substr(at + 1));
  CHECK(covered == 24);
  CHECK_THAT(head, ContainsSubstring(hex(bits_color(map.head_bits(map.budgets[0], 0, 1)[0]))));
}

TEST_CASE("heat maps of a model without energy") {
  BitMap map = sample_map(1, 1, 8, 8);
  for (double& e : map.energy) e = 0;
  CHECK(markup_error(map_heads(map_view(map))) == "");
}
