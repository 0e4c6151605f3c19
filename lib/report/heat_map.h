#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// Heat maps of shares, side by side, on one scale from 0 to 1.
struct HeatMaps {
  std::string title, x_title, y_title;
  std::vector<std::string> columns, rows;  // of every map
  struct Map {
    std::string name;
    std::vector<std::vector<double>> values;  // (rows, columns) in [0, 1]; NaN: none
  };
  std::vector<Map> maps;
};

/// Self-contained as line_chart(). Every cell shows its share in per cent.
std::string heat_map_svg(const HeatMaps& maps);

}  // namespace blockgtq
