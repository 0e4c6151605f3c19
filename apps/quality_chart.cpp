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

/// The published method with plain values, or the uniform one, in scalar codes.
bool is_plain(const CacheSpec& kind, const char* keys) {
  return kind.code == CodePair{} && (kind.v_method.empty() || kind.v_method == "tq-mse") &&
         (kind.k_method == keys || (kind.k_method.empty() && std::string("tq-mse") == keys));
}

/// Colours of the palette, 0 for those that stay grey. n_best: of every line the points that no other is
/// below at as many bytes.
std::vector<int> colors_of(const std::vector<Line>& lines, const std::vector<int>& n_best) {
  constexpr int kPublished = 5, kUniform = 2;
  std::vector<int> free = {1, 3, 4, 7, 6}, colors(lines.size(), 0), order;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_plain(lines[i].kind, "block-gtq"))
      colors[i] = kPublished;
    else if (is_plain(lines[i].kind, "tq-mse"))
      colors[i] = kUniform;
    else if (n_best[i] > 0)
      order.push_back(int(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return n_best[a] > n_best[b]; });
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

  std::vector<Series> all;
  for (const Line& line : lines) {
    Series series{line_name(line, any_keys, any_values), {}};
    series.mark = line.kind.code == CodePair{} ? 0 : 1;
    for (const CacheMean& point : line.points) {
      series.x.push_back(point.bytes);
      series.y.push_back(point.kl);
    }
    all.push_back(std::move(series));
  }
  std::vector<int> n_best;
  chart.series.push_back(lowest_within("lowest KL within these bytes", all, &n_best));
  const std::vector<int> colors = colors_of(lines, n_best);
  for (const bool grey : {true, false})  // the few lie on top of the many
    for (size_t i = 0; i < lines.size(); ++i) {
      if ((colors[i] == 0) != grey) continue;
      all[i].color = colors[i];
      all[i].stroke = grey ? Stroke::thin : Stroke::line;
      chart.series.push_back(std::move(all[i]));
    }
  return line_chart(chart);
}

}  // namespace blockgtq
