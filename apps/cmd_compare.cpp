// Two maps, or two results of one kind, side by side: which bits differ, and B over A of every number with an
// interval where one is known.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "comparison.h"
#include "eval/bootstrap.h"
#include "gate.h"
#include "quant/bit_split.h"
#include "quant/map_difference.h"
#include "report/number.h"
#include "report/table.h"
#include "result_files.h"
#include "store/map_file.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

struct Options {
  std::string a, b, json, csv, markdown;
  std::vector<std::string> gates;
  bool force = false;
};

std::string digits(double value) {
  return std::isnan(value) ? "" : fmt::format("{:.4g}", value);
}

std::string interval(const Ratio& r) {
  return std::isnan(r.low) ? "" : fmt::format("{:.3f} .. {:.3f}", r.low, r.high);
}

std::string ratio_text(double value) {
  return std::isnan(value) ? "" : fmt::format("{:.3f}", value);
}

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

Json ratio_json(const Ratio& r) {
  Json json = {{"ratio", number(r.value)}};
  if (!std::isnan(r.low)) json["interval"] = {r.low, r.high};
  return json;
}

/// What was compared, as a reader and as files have it, and the values that gates look at by name.
struct Outcome {
  std::vector<Table> tables;
  std::vector<std::string> notes;
  Json json;
  Table all{std::vector<std::string>{}};  // of --csv
  struct Value {
    std::string what;  // "tiny-qwen2 2 block-gtq"
    double value;
  };
  std::map<std::string, std::vector<Value>> values;  // by the name of a gate's metric

  void add(const std::string& metric, const std::string& what, const Ratio& r) {
    values[metric].push_back({what, r.value});
    if (std::isnan(r.low)) return;
    values[metric + ".low"].push_back({what, r.low});
    values[metric + ".high"].push_back({what, r.high});
  }
};

std::vector<std::string> with(std::vector<std::string> cells, const std::vector<std::string>& more) {
  cells.insert(cells.end(), more.begin(), more.end());
  return cells;
}

Ratio error_ratio(const std::vector<BitDifference::Count>& heads) {
  std::vector<ChunkSum> sums;
  for (const BitDifference::Count& head : heads) sums.push_back({head.error_b, head.error_a});
  const auto [low, high] = Bootstrap(sums.size()).mean(sums);
  return {mean(sums), low, high};
}

std::vector<std::string> count_cells(const BitDifference::Count& c) {
  const double blocks = double(c.blocks);
  return {percent(c.changed()), std::to_string(c.fewer), std::to_string(c.more),
          fmt::format("{:.3f}", double(c.bits_a) / blocks), fmt::format("{:.3f}", double(c.bits_b) / blocks)};
}

std::string some(const std::vector<std::string>& of, const char* separator = ", ") {
  constexpr size_t kShown = 6;
  const size_t n = std::min(of.size(), kShown);
  std::string text = fmt::format("{}", fmt::join(of.begin(), of.begin() + n, separator));
  return of.size() > n ? text + fmt::format("{}and {} more", separator, of.size() - n) : text;
}

Outcome compare_maps(const Options& o) {
  const BitMap a = read_map(o.a), b = read_map(o.b);
  const std::vector<BitDifference> arrays = map_differences(a, b, o.a, o.b);
  const std::vector<std::string> columns = {"changed", "fewer in B", "more in B",
                                            "bits A",  "bits B",     "error B/A"};
  Outcome out;
  Table summary(with(with({"bits", "array"}, columns), {"95 %"}));
  out.all = Table(with({"bits", "array", "layer"}, columns));
  out.json = {{"schema", "blockgtq.compare/1"}, {"of", "blockgtq.map"}, {"arrays", Json::array()}};
  for (const BitDifference& d : arrays) {
    const BitDifference::Count total = d.total();
    const Ratio error = error_ratio(d.heads);
    const std::string bits = bits_text(d.average_bits), what = fmt::format("{} at {} bits", d.array, bits);
    summary.row(with(with({bits, d.array}, count_cells(total)), {ratio_text(error.value), interval(error)}));
    Json array = {{"bits", d.average_bits},     {"array", d.array},
                  {"blocks", total.blocks},     {"fewer", total.fewer},
                  {"more", total.more},         {"changed", total.changed()},
                  {"error", ratio_json(error)}, {"changed_of_layer", Json::array()}};
    for (int l = 0; l < a.shape.n_layers; ++l) {
      const BitDifference::Count layer = d.layer(l, a.shape.n_kv_heads);
      array["changed_of_layer"].push_back(layer.changed());
      out.all.row(with(with({bits, d.array, std::to_string(l)}, count_cells(layer)),
                       {exact(layer.error_b / layer.error_a)}));
    }
    out.json["arrays"].push_back(std::move(array));
    out.values["changed"].push_back({what, total.changed()});
    out.add("error", what, error);
  }
  out.tables.push_back(summary);
  out.notes.push_back("error: sum of energy * 4^-bits, with the energies of A; 95 % over KV heads");
  if (const auto runs = differences(a.provenance, b.provenance); !runs.empty())
    out.notes.push_back("the runs differ: " + some(runs, "; "));
  return out;
}

/// Metrics whose numbers are equal everywhere need no rows.
std::set<std::string> unchanged(const Comparison& c) {
  std::set<std::string> equal;
  for (const ComparedRow& row : c.rows) equal.insert(row.metric);
  for (const ComparedRow& row : c.rows)
    if (row.a != row.b) equal.erase(row.metric);
  return equal;
}

Table row_table(const Comparison& c, const std::set<std::string>& without, bool for_files) {
  Table table(with(c.columns, {"metric", "A", "B", "B/A", "95 %"}));
  for (const ComparedRow& row : c.rows)
    if (!without.count(row.metric)) {
      const Ratio& r = row.ratio;
      table.row(with(row.key, for_files ? std::vector<std::string>{row.metric, exact(row.a), exact(row.b),
                                                                   exact(r.value), interval(r)}
                                        : std::vector<std::string>{row.metric, digits(row.a), digits(row.b),
                                                                   ratio_text(r.value), interval(r)}));
    }
  return table;
}

Table mean_table(const Comparison& c, const std::set<std::string>& without) {
  const std::vector<std::string> key(c.columns.begin() + 1, c.columns.end());
  Table table(with(key, {"metric", "models", "B/A", "95 %", "least", "most"}));
  for (const ComparedMean& m : c.means)
    if (!without.count(m.metric))
      table.row(with(m.key, {m.metric, std::to_string(m.n), ratio_text(m.ratio.value), interval(m.ratio),
                             ratio_text(m.least), ratio_text(m.most)}));
  return table;
}

Json comparison_json(const Comparison& c, const std::string& schema) {
  const auto keyed = [](const std::vector<std::string>& columns, const std::vector<std::string>& key) {
    Json json;
    for (size_t i = 0; i < key.size(); ++i) json[columns[columns.size() - key.size() + i]] = key[i];
    return json;
  };
  Json json = {{"schema", "blockgtq.compare/1"}, {"of", schema}, {"rows", Json::array()}};
  for (const ComparedRow& row : c.rows) {
    Json entry = keyed(c.columns, row.key);
    entry.update({{"metric", row.metric}, {"a", row.a}, {"b", row.b}});
    entry.update(ratio_json(row.ratio));
    json["rows"].push_back(std::move(entry));
  }
  for (const ComparedMean& m : c.means) {
    Json entry = keyed(c.columns, m.key);
    entry.update({{"metric", m.metric}, {"models", m.n}, {"least", m.least}, {"most", m.most}});
    entry.update(ratio_json(m.ratio));
    json["means"].push_back(std::move(entry));
  }
  for (const auto& [name, keys] : {std::pair{"only_a", &c.only_a}, {"only_b", &c.only_b}, {"run", &c.run}})
    json[name] = *keys;
  return json;
}

Outcome compare_results(const Options& o) {
  const Measures a = read_measures(o.a);
  const Comparison c = compare(a, read_measures(o.b));
  Outcome out;
  const std::set<std::string> equal = unchanged(c);
  if (!c.means.empty())
    out.tables.push_back(mean_table(c, equal));
  else if (std::any_of(c.rows.begin(), c.rows.end(), [&](const auto& r) { return !equal.count(r.metric); }))
    out.tables.push_back(row_table(c, equal, false));
  out.all = row_table(c, {}, true);
  out.json = comparison_json(c, a.schema);
  for (const ComparedRow& row : c.rows)
    out.add(row.metric, fmt::format("{}", fmt::join(row.key, " ")), row.ratio);
  out.values["missing"].push_back({"numbers that A or B lacks", double(c.only_a.size() + c.only_b.size())});
  if (!equal.empty()) out.notes.push_back(fmt::format("equal in all rows: {}", fmt::join(equal, ", ")));
  if (!c.means.empty()) out.notes.push_back("geometric means over models; --csv and --json have every row");
  if (a.schema == "blockgtq.bench-decode/1")
    out.notes.push_back("milliseconds: from the 5 % and 95 % of steps");
  if (!c.only_a.empty()) out.notes.push_back("only in A: " + some(c.only_a));
  if (!c.only_b.empty()) out.notes.push_back("only in B: " + some(c.only_b));
  if (!c.run.empty()) out.notes.push_back("the runs differ: " + some(c.run, "; "));
  return out;
}

/// The gates, each with a metric of this comparison; Exit::usage for another.
void check_gates(const std::vector<Gate>& gates, const Outcome& out) {
  std::vector<std::string> known;
  for (const auto& [name, values] : out.values) known.push_back(name);
  for (const Gate& gate : gates) {
    const auto found = out.values.find(gate.metric());
    if (found == out.values.end())
      throw Error(Exit::usage,
                  fmt::format("--fail-if: '{}' is none of {}", gate.metric(), fmt::join(known, ", ")));
    for (const auto& [what, value] : found->second)
      if (gate.fails(value)) throw Error(Exit::gate, fmt::format("{}: {}", what, gate.text(value)));
  }
}

void run_compare(const Options& o) {
  std::vector<Gate> gates;
  for (const std::string& text : o.gates) gates.emplace_back(text, "a metric of the comparison");
  ResultFiles files(o.json, o.csv, o.markdown, o.force);
  const bool map_a = is_hdf5(o.a), map_b = is_hdf5(o.b);
  if (map_a != map_b)
    fail_input("{} is {}, {} is {}: two of one kind are compared", o.a, map_a ? "a map" : "a result", o.b,
               map_b ? "a map" : "a result");
  const Outcome out = map_a ? compare_maps(o) : compare_results(o);
  std::string text = fmt::format("A  {}\nB  {}\n", o.a, o.b), markdown;
  for (const Table& table : out.tables) {
    text += "\n" + table.text(terminal_width());
    markdown += (markdown.empty() ? "" : "\n") + table.markdown();
  }
  if (!out.notes.empty()) text += "\n";
  for (const std::string& note : out.notes) text += note + "\n";
  Json json = out.json;
  json["a"] = o.a;
  json["b"] = o.b;
  files.write(json, out.all.csv(), markdown, text);
  check_gates(gates, out);
}

}  // namespace

void add_compare(CLI::App& app, const GlobalOptions&) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "compare", "Two maps, or two results of eval-logits, panel, perplexity or bench: what differs");
  command->add_option("a", o->a, "MAP.h5, or JSON of eval-logits, panel, perplexity or bench")->required();
  command->add_option("b", o->b, "What to compare with it, of the same kind")->required();
  command
      ->add_option("--fail-if", o->gates,
                   "Exit 7 when B over A is so for any row: mae>1.05, kl_mean>1.1, microseconds.low>1 (the "
                   "interval's lower end), missing>0; of maps changed>0.1, error>1.01; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--json", o->json, "All rows as JSON; - for standard output");
  command->add_option("--csv", o->csv, "All rows as CSV; - for standard output");
  command->add_option("--md", o->markdown, "The table as Markdown; - for standard output");
  command->add_flag("--force", o->force, "Replace existing outputs");
  command->callback([o] { run_compare(*o); });
}

}  // namespace blockgtq
