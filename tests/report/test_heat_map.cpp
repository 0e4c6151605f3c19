#include <limits>

#include "catch.h"
#include "markup.h"
#include "report/heat_map.h"

using namespace blockgtq;

TEST_CASE("heat map: every cell with its share, none where there is no number") {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const HeatMaps maps{"Found",     "tokens",
                      "depth",     {"512", "1024"},
                      {"0", "50"}, {{"exact", {{1, 0.5}, {0.25, kNone}}}, {"K2 <a & b>", {{0, 0}, {0, 0}}}}};
  const std::string svg = heat_map_svg(maps);
  CHECK_THAT(svg, ContainsSubstring("exact\ntokens 512, depth 0: 100.0 %"));
  CHECK_THAT(svg, ContainsSubstring("tokens 512, depth 50: 25.0 %"));
  CHECK_THAT(svg, ContainsSubstring("K2 &lt;a &amp; b&gt;"));
  size_t cells = 0;
  for (size_t at = svg.find("<title>"); at != std::string::npos; at = svg.find("<title>", at + 1)) ++cells;
  CHECK(cells == 7);
  CHECK(heat_map_svg(maps) == svg);
}
