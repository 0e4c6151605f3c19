#include "task_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/wilson.h"
#include "report/number.h"

namespace blockgtq {
namespace {

using Group = std::vector<std::string>;

/// Samples that were drawn together, under one cache and under the exact one.
struct Unit {
  std::string name;
  double weight = 0, score = 0, difference = 0;  // sums, each sample with its weight
};

/// Indices of samples per group, in order of appearance.
std::vector<std::pair<Group, std::vector<size_t>>> groups_of(const std::vector<TaskSample>& samples) {
  std::vector<std::pair<Group, std::vector<size_t>>> groups;
  for (size_t i = 0; i < samples.size(); ++i) {
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& group) { return group.first == samples[i].group; });
    if (found == groups.end()) found = groups.insert(found, {samples[i].group, {}});
    found->second.push_back(i);
  }
  return groups;
}

/// weights (samples of `chosen`): how much each counts.
TaskRow make_row(const TaskResult& result, size_t cache, const Group& group,
                 const std::vector<size_t>& chosen, const std::vector<double>& weights) {
  TaskRow row;
  row.group = group;
  row.cache = cache;
  row.samples = int64_t(chosen.size());
  std::vector<Unit> units;
  std::map<std::string, size_t> unit_of;
  double weight = 0, squares = 0;
  for (size_t k = 0; k < chosen.size(); ++k) {
    const size_t i = chosen[k];
    const TaskSample& sample = result.samples[i];
    const double score = result.records[cache][i].score, w = weights[k];
    const auto [at, fresh] =
        unit_of.try_emplace(fmt::format("{} {}", fmt::join(sample.group, " "), sample.unit), units.size());
    if (fresh) units.push_back({at->first});
    Unit& unit = units[at->second];
    unit.weight += w;
    unit.score += w * score;
    unit.difference += w * (score - result.records[0][i].score);
    row.bytes += w * result.bytes[cache][i];
    row.tokens += w * double(result.records[cache][i].tokens);
  }
  std::vector<ChunkSum> differences;
  for (const Unit& unit : units) {
    weight += unit.weight;
    squares += unit.weight * unit.weight;
    row.score += unit.score;
    row.difference += unit.difference;
    differences.push_back({unit.difference, unit.weight});
  }
  for (double* sum : {&row.bytes, &row.tokens, &row.score, &row.difference}) *sum /= weight;
  row.interval = wilson(row.score, weight * weight / squares);
  row.difference_interval = Bootstrap(units.size()).mean(differences);
  return row;
}

std::string range(const Bootstrap::Interval& interval) {
  if (std::isnan(interval.low)) return "";
  return fmt::format("{:.1f} to {:.1f}", 100 * interval.low, 100 * interval.high);
}

std::string method(const std::string& name) {
  return name.empty() ? "exact" : name;
}

Json interval_json(const Bootstrap::Interval& interval) {
  return std::isnan(interval.low) ? Json(nullptr) : Json({interval.low, interval.high});
}

}  // namespace

std::vector<TaskRow> task_rows(const TaskResult& result) {
  std::vector<TaskRow> rows;
  const auto groups = groups_of(result.samples);
  std::vector<size_t> all;
  std::vector<double> weights;
  for (const auto& [group, chosen] : groups) {
    all.insert(all.end(), chosen.begin(), chosen.end());
    weights.insert(weights.end(), chosen.size(), 1.0 / double(chosen.size()));
    for (size_t c = 0; c < result.records.size(); ++c)
      rows.push_back(make_row(result, c, group, chosen, std::vector<double>(chosen.size(), 1)));
  }
  if (groups.size() < 2) return rows;
  Group average(groups[0].first.size());
  average[0] = "average";
  for (size_t c = 0; c < result.records.size(); ++c)
    rows.push_back(make_row(result, c, average, all, weights));
  return rows;
}

Table TaskReport::table(bool with_model) const {
  std::vector<std::string> header;
  if (with_model) header.emplace_back("model");
  header.insert(header.end(), columns.begin(), columns.end());
  for (const char* name : {"cache", "K method", "V method", "bytes/token", "answers", "tokens", "score",
                           "95 %", "to exact", "95 %"})
    header.emplace_back(name);
  Table table(header);
  for (const TaskResult& result : results)
    for (const TaskRow& row : task_rows(result)) {
      const CacheSpec& spec = result.specs[row.cache];
      std::vector<std::string> cells;
      if (with_model) cells.push_back(result.name);
      cells.insert(cells.end(), row.group.begin(), row.group.end());
      const bool exact = row.cache == 0;
      for (const std::string& cell :
           {width_text(spec), method(spec.k_method), method(spec.v_method),
            row.bytes > 0 ? fmt::format("{:.5g}", row.bytes) : "", std::to_string(row.samples),
            fmt::format("{:.1f}", row.tokens), fmt::format("{:.1f}", 100 * row.score), range(row.interval),
            exact ? "" : fmt::format("{:+.1f}", 100 * row.difference),
            exact ? "" : range(row.difference_interval)})
        cells.push_back(cell);
      table.row(cells);
    }
  return table;
}

Table TaskReport::answers() const {
  std::vector<std::string> header = {"model", "cache", "id"};
  if (!results.empty())
    for (const auto& [name, unused] : results[0].samples.at(0).facts.items()) header.push_back(name);
  for (const char* name : {"bytes_per_token", "prompt_tokens", "tokens", "ended", "score"})
    header.emplace_back(name);
  Table table(header);
  for (const TaskResult& result : results)
    for (size_t c = 0; c < result.records.size(); ++c)
      for (size_t i = 0; i < result.samples.size(); ++i) {
        const TaskRecord& record = result.records[c][i];
        std::vector<std::string> cells = {result.name, result.cache_names[c], result.samples[i].id};
        for (const auto& [unused, value] : result.samples[i].facts.items())
          cells.push_back(value.is_string() ? value.get<std::string>() : value.dump());
        for (const std::string& cell :
             {exact(result.bytes[c][i]), std::to_string(record.prompt_tokens), std::to_string(record.tokens),
              std::string(record.ended ? "end token" : "length"), exact(record.score)})
          cells.push_back(cell);
        table.row(cells);
      }
  return table;
}

Json TaskReport::json(const std::vector<ModelFailure>& failures) const {
  Json models = Json::array();
  for (const TaskResult& result : results) {
    Json rows = Json::array();
    for (const TaskRow& row : task_rows(result)) {
      Json json;
      for (size_t k = 0; k < columns.size(); ++k) json[columns[k]] = row.group[k];
      const CacheSpec& spec = result.specs[row.cache];
      const Json rest = {{"cache", result.cache_names[row.cache]},
                         {"k_method", method(spec.k_method)},
                         {"v_method", method(spec.v_method)},
                         {"k_bits", spec.bits.k},
                         {"v_bits", spec.bits.v},
                         {"code", code_text(spec)},
                         {"sink", spec.exact.sink},
                         {"recent", spec.exact.recent},
                         {"bytes_per_token", row.bytes},
                         {"answers", row.samples},
                         {"mean_tokens", row.tokens},
                         {"score", row.score},
                         {"interval", interval_json(row.interval)},
                         {"difference", row.difference},
                         {"difference_interval", interval_json(row.difference_interval)}};
      for (const auto& [name, value] : rest.items()) json[name] = value;
      rows.push_back(json);
    }
    Json head = result.head;
    head.erase("schema");
    models.push_back({{"name", result.name}, {"run", head}, {"results", rows}});
  }
  Json json = {{"schema", "blockgtq.tasks/1"}, {"command", command}, {"models", models}};
  json["failures"] = Json::array();
  for (const ModelFailure& f : failures) json["failures"].push_back({{"name", f.name}, {"error", f.error}});
  return json;
}

}  // namespace blockgtq
