#include "quality_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/chart.h"

namespace blockgtq {
namespace {

/// The budgets of one kind of cache.
struct Line {
  CacheSpec kind;  // without bits
  std::vector<CacheMean> points;
  int n_best = 0;  // points that no other is below at as many bytes
};

CacheSpec kind_of(CacheSpec spec) {
  spec.bits = {};
  return spec;
}

bool cheaper(const CacheMean& a, const CacheMean& b) {
  return a.bytes != b.bytes ? a.bytes < b.bytes : a.kl < b.kl;
}

std::vector<Line> lines_of(const std::vector<CacheMean>& means) {
  std::vector<Line> lines;
  for (const CacheMean& mean : means) {
    auto line =
        std::find_if(lines.begin(), lines.end(), [&](const Line& l) { return l.kind == kind_of(mean.spec); });
    if (line == lines.end()) line = lines.insert(line, Line{kind_of(mean.spec), {}});
    line->points.push_back(mean);
  }
  for (Line& line : lines) std::stable_sort(line.points.begin(), line.points.end(), cheaper);
  return lines;
}

/// The lowest KL that any cache reaches at no more bytes, in steps; counts in every line the points on it.
Series envelope(std::vector<CacheMean> means, std::vector<Line>& lines) {
  Series steps{"lowest KL within these bytes", {}, 0};
  steps.stroke = Stroke::band;
  std::stable_sort(means.begin(), means.end(), cheaper);
  auto step = [&](double bytes, double kl) {
    steps.x.push_back(bytes);
    steps.y.push_back(kl);
  };
  for (const CacheMean& mean : means) {
    if (!steps.y.empty() && mean.kl >= steps.y.back()) continue;
    if (!steps.y.empty()) step(mean.bytes, steps.y.back());
    step(mean.bytes, mean.kl);
    for (Line& line : lines) line.n_best += line.kind == kind_of(mean.spec);
  }
  if (!means.empty()) step(means.back().bytes, steps.y.back());
  return steps;
}

/// The published method with plain values, or the uniform one, in scalar codes.
bool is_plain(const CacheSpec& kind, const char* keys) {
  return kind.code == CodePair{} && (kind.v_method.empty() || kind.v_method == "tq-mse") &&
         (kind.k_method == keys || (kind.k_method.empty() && std::string("tq-mse") == keys));
}

/// Colours of the palette, 0 for those that stay grey.
std::vector<int> colors_of(const std::vector<Line>& lines) {
  constexpr int kPublished = 5, kUniform = 2;
  std::vector<int> free = {1, 3, 4, 7, 6}, colors(lines.size(), 0), order;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_plain(lines[i].kind, "block-gtq"))
      colors[i] = kPublished;
    else if (is_plain(lines[i].kind, "tq-mse"))
      colors[i] = kUniform;
    else if (lines[i].n_best > 0)
      order.push_back(int(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return lines[a].n_best > lines[b].n_best; });
  for (size_t i = 0; i < std::min(order.size(), free.size()); ++i) colors[order[i]] = free[i];
  return colors;
}

/// "tq-mse-cb, trellis, sink 4", with both methods where some line has keys and some has values.
std::string line_name(const Line& line, bool any_keys, bool any_values) {
  const CacheSpec& kind = line.kind;
  auto method = [](const std::string& name) { return name.empty() ? "exact" : name; };
  std::string name = !any_values ? kind.k_method
                     : !any_keys ? kind.v_method
                                 : method(kind.k_method) + " / " + method(kind.v_method);
  if (!(kind.code == CodePair{})) name += ", " + code_text(line.points[0].spec);
  if (kind.exact.sink) name += fmt::format(", sink {}", kind.exact.sink);
  if (kind.exact.recent) name += fmt::format(", recent {}", kind.exact.recent);
  return name;
}

}  // namespace

std::string quality_chart(const std::vector<ModelQuality>& models, std::vector<std::string>& left_out) {
  std::vector<std::string> other_models;
  std::vector<CacheMean> means;
  if (!models.empty()) means = cache_means(models, other_models);
  std::erase_if(means, [&](const CacheMean& mean) {
    if (std::isfinite(mean.kl) && mean.kl > 0) return false;
    left_out.push_back(describe(mean.spec));
    return true;
  });
  std::vector<Line> lines = lines_of(means);
  const bool any_keys = std::any_of(lines.begin(), lines.end(),
                                    [](const Line&l) { return !l.kind.k_method.empty(); }),
             any_values = std::any_of(lines.begin(), lines.end(),
                                      [](const Line&l) { return !l.kind.v_method.empty(); });

  Chart chart;
  chart.title = fmt::format("KL against bytes per token of {}", !any_values ? "keys"
                                                                : !any_keys ? "values"
                                                                            : "keys and values");
  chart.x_title = "bytes per token";
  chart.y_title = "mean KL (nats per token), logarithmic";
  if (models.size() == 1) {
    chart.title += ": " + models[0].name;
  } else {
    chart.title += fmt::format(": geometric mean over {} models", models.size() - other_models.size());
    chart.x_title += ", geometric mean";
  }
  chart.log_y = true;
  chart.names_at_ends = true;
  if (means.empty()) return line_chart(chart);

  chart.series.push_back(envelope(means, lines));
  const std::vector<int> colors = colors_of(lines);
  for (const bool grey : {true, false})  // the few lie on top of the many
    for (size_t i = 0; i < lines.size(); ++i) {
      if ((colors[i] == 0) != grey) continue;
      Series series{line_name(lines[i], any_keys, any_values), {}, colors[i]};
      series.mark = lines[i].kind.code == CodePair{} ? 0 : 1;
      series.stroke = grey ? Stroke::thin : Stroke::line;
      for (const CacheMean& point : lines[i].points) {
        series.x.push_back(point.bytes);
        series.y.push_back(point.kl);
      }
      chart.series.push_back(std::move(series));
    }
  return line_chart(chart);
}

}  // namespace blockgtq
