#include "comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "eval/bootstrap.h"

namespace blockgtq {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string text_of(const Measure& m) {
  return fmt::format("{} {}", fmt::join(m.key, " "), m.metric);
}

double quotient(double a, double b) {
  if (a == b && std::isfinite(a)) return 1;  // also of 0 and 0
  return a > 0 && b >= 0 && std::isfinite(a) && std::isfinite(b) ? b / a : kNone;
}

/// Half of the width of the logarithm's interval; NaN where it has none.
double log_half(const Measure& m) {
  return m.low > 0 && m.high >= m.low ? (std::log(m.high) - std::log(m.low)) / 2 : kNone;
}

void set_layer_interval(Ratio& r, const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<ChunkSum> layers(a.size());
  for (size_t l = 0; l < a.size(); ++l) layers[l] = {b[l], a[l]};
  const auto [low, high] = Bootstrap(layers.size()).mean(layers);
  r.low = low;
  r.high = high;
}

std::vector<ComparedMean> means_over_models(const Comparison& c) {
  if (c.columns[0] != "model") return {};
  std::vector<ComparedMean> means;
  std::map<std::string, size_t> index;
  std::vector<std::vector<ChunkSum>> logs;
  bool several = false;
  for (const ComparedRow& row : c.rows) {
    several = several || row.key[0] != c.rows[0].key[0];
    if (!(row.ratio.value > 0)) continue;
    const std::vector<std::string> key(row.key.begin() + 1, row.key.end());
    const auto [entry, fresh] =
        index.emplace(fmt::format("{} {}", fmt::join(key, " "), row.metric), means.size());
    if (fresh) {
      means.push_back({key, row.metric, 0, {}, row.ratio.value, row.ratio.value});
      logs.emplace_back();
    }
    ComparedMean& mean = means[entry->second];
    mean.n++;
    mean.least = std::min(mean.least, row.ratio.value);
    mean.most = std::max(mean.most, row.ratio.value);
    logs[entry->second].push_back({std::log(row.ratio.value), 1});
  }
  if (!several) return {};
  for (size_t i = 0; i < means.size(); ++i) {
    means[i].ratio.value = std::exp(mean(logs[i]));
    if (means[i].n < 3) continue;
    const auto [low, high] = Bootstrap(logs[i].size()).mean(logs[i]);
    means[i].ratio.low = std::exp(low);
    means[i].ratio.high = std::exp(high);
  }
  return means;
}

/// Whether all is of one model, whatever it is called.
bool one_model(const Measures& m) {
  return m.columns[0] == "model" && !m.all.empty() &&
         std::all_of(m.all.begin(), m.all.end(),
                     [&](const Measure& x) { return x.key[0] == m.all[0].key[0]; });
}

void forget_model(Measures& m) {
  m.run.emplace_back("model", m.all[0].key[0]);
  m.columns.erase(m.columns.begin());
  for (Measure& row : m.all) row.key.erase(row.key.begin());
}

}  // namespace

std::vector<std::string> differences(const Facts& a, const Facts& b) {
  std::vector<std::string> found;
  for (const auto& [name, value] : a)
    for (const auto& [other, its] : b) {
      const std::string text = fmt::format("{}: {} and {}", name, value, its);
      if (name == other && value != its && std::find(found.begin(), found.end(), text) == found.end())
        found.push_back(text);
    }
  return found;
}

Ratio ratio(const Measure& a, const Measure& b) {
  Ratio r{quotient(a.value, b.value), kNone, kNone};
  if (std::isnan(r.value)) return r;
  const double half = std::hypot(log_half(a), log_half(b));
  if (!std::isnan(half) && r.value > 0) {
    r.low = r.value * std::exp(-half);
    r.high = r.value * std::exp(half);
  } else if (a.layers.size() > 1 && a.layers.size() == b.layers.size()) {
    set_layer_interval(r, a.layers, b.layers);
  }
  return r;
}

Comparison compare(Measures a, Measures b) {
  if (a.schema != b.schema) fail_input("{}: {}, but {}: {}", a.path, a.schema, b.path, b.schema);
  if (one_model(a) && one_model(b) && a.all[0].key[0] != b.all[0].key[0]) {
    forget_model(a);  // what the model is called does not keep two runs of one model apart
    forget_model(b);
  }
  Comparison c;
  c.columns = a.columns;
  std::map<std::string, const Measure*> of_b;
  for (const Measure& m : b.all) of_b.emplace(text_of(m), &m);
  for (const Measure& m : a.all) {
    const auto found = of_b.find(text_of(m));
    if (found == of_b.end()) {
      c.only_a.push_back(text_of(m));
      continue;
    }
    c.rows.push_back({m.key, m.metric, m.value, found->second->value, ratio(m, *found->second)});
    of_b.erase(found);
  }
  for (const Measure& m : b.all)
    if (of_b.count(text_of(m))) c.only_b.push_back(text_of(m));
  if (c.rows.empty()) fail_input("{} and {} have no number in common", a.path, b.path);
  c.means = means_over_models(c);
  c.run = differences(a.run, b.run);
  return c;
}

}  // namespace blockgtq
