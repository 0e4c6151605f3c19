#include <algorithm>
#include <cmath>

#include "report/chart.h"

namespace blockgtq {

Series lowest_within(const std::string& name, const std::vector<Series>& series, std::vector<int>* n_best) {
  struct Point {
    double x, y;
    size_t series;
  };
  std::vector<Point> points;
  for (size_t s = 0; s < series.size(); ++s)
    for (size_t i = 0; i < series[s].x.size(); ++i)
      if (std::isfinite(series[s].x[i]) && std::isfinite(series[s].y[i]))
        points.push_back({series[s].x[i], series[s].y[i], s});
  std::stable_sort(points.begin(), points.end(),
                   [](const Point& a, const Point& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  Series steps{name, {}, 0};
  steps.stroke = Stroke::band;
  if (n_best) n_best->assign(series.size(), 0);
  auto step = [&](double x, double y) {
    steps.x.push_back(x);
    steps.y.push_back(y);
  };
  for (const Point& point : points) {
    if (!steps.y.empty() && point.y >= steps.y.back()) continue;
    if (!steps.y.empty()) step(point.x, steps.y.back());
    step(point.x, point.y);
    if (n_best) ++(*n_best)[point.series];
  }
  if (!points.empty()) step(points.back().x, steps.y.back());
  return steps;
}

}  // namespace blockgtq
