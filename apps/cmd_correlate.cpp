// Which metric foretells the model-level number? Both sides are documents of other commands: eval-logits (or
// panel) has every metric per method and budget, perplexity what the same keys do to the next token.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "commands.h"
#include "eval/rank_correlation.h"
#include "json_input.h"
#include "quant/bit_split.h"
#include "report/table.h"
#include "result_files.h"
#include "serve/cache_spec.h"

namespace blockgtq {
namespace {

constexpr size_t kMaxResultBytes = size_t(64) << 20;
constexpr size_t kFewest = 3;  // configurations that make a correlation

struct Options {
  std::vector<std::string> evaluations, with;
  std::string against = "kl_mean", json, csv, markdown;
  bool force = false;
};

/// A key method at a budget, on one model: model, method, bits, positions held exactly.
using Configuration = std::tuple<std::string, std::string, double, ExactWindow>;
using Metrics = std::map<std::string, double>;

double number_or_nan(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : std::nan("");
}

/// Runs `read` on a document; what it lacks is an input error that names the file.
template <class Read>
void read_document(const std::string& path, const Read& read) {
  const Json json = read_json_input(path, kMaxResultBytes);
  try {
    read(json);
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: not a document of ours: {}", path, e.what());
  }
}

class Correlation {
 public:
  explicit Correlation(const Options& o) : o_(o) {
    for (const std::string& path : o.evaluations) read_evaluations(path);
    for (const std::string& path : o.with) read_qualities(path);
    for (const auto& [configuration, metrics] : metrics_)
      if (quality_.count(configuration)) pairs_.push_back(configuration);
    if (pairs_.empty())
      fail_input("{}: no model, key method, budget and exact positions (with exact values) are in both",
                 o.with[0]);
  }

  Table table() const {
    std::vector<std::string> header = {"", "configurations"};
    for (const std::string& name : names_) header.push_back(name);
    Table table(header);
    for (const Row& row : rows()) {
      std::vector<std::string> cells = {row.title, std::to_string(row.n)};
      for (const double r : row.correlation) cells.push_back(std::isnan(r) ? "" : fmt::format("{:.3f}", r));
      table.row(cells);
    }
    return table;
  }

  Json json() const {
    Json json;
    json["schema"] = "blockgtq.correlate/1";
    json["against"] = o_.against;
    json["rows"] = Json::array();
    for (const Row& row : rows()) {
      Json entry = {{"of", row.title}, {"configurations", row.n}, {"spearman", Json::object()}};
      for (size_t i = 0; i < names_.size(); ++i)
        entry["spearman"][names_[i]] = std::isnan(row.correlation[i]) ? Json() : Json(row.correlation[i]);
      json["rows"].push_back(std::move(entry));
    }
    return json;
  }

 private:
  struct Row {
    std::string title;
    size_t n;                         // configurations
    std::vector<double> correlation;  // (names)
  };

  void read_evaluations(const std::string& path) {
    read_document(path, [&](const Json& json) {
      const auto schema = json.at("schema").get<std::string>();
      if (schema == "blockgtq.eval-logits/1") return read_evaluation(path, json, json.at("model"));
      if (schema != "blockgtq.panel/1")
        fail_input("{}: schema: {}, blockgtq.eval-logits/1 or blockgtq.panel/1 wanted", path, schema);
      for (const Json& model : json.at("models"))
        if (model.at("status") == "ok") read_evaluation(path, model.at("eval"), model.at("name"));
    });
  }

  /// None where a document does not speak of them.
  static ExactWindow exact_of(const Json& json) {
    return {json.value("sink", int64_t(0)), json.value("recent", int64_t(0))};
  }

  void read_evaluation(const std::string& path, const Json& evaluation, const std::string& model) {
    for (const Json& row : evaluation.at("summary")) {
      Metrics metrics = {{"mae", row.at("mae").get<double>()},
                         {"bytes", row.at("bytes_per_token").get<double>()}};
      if (row.contains("metrics"))
        for (const auto& [name, value] : row["metrics"].items())
          metrics[name] = number_or_nan(value, "value");
      for (const char* name : {"mae", "mae-model", "weighted", "kl", "topk", "output", "bytes"})
        if (metrics.count(name) && std::find(names_.begin(), names_.end(), name) == names_.end())
          names_.push_back(name);
      const Configuration key{model, row.at("method"), row.at("bits"), exact_of(evaluation)};
      if (!metrics_.emplace(key, std::move(metrics)).second)
        fail_input("{}: {} at {:g} bits of {} came before", path, std::get<1>(key), std::get<2>(key), model);
    }
  }

  /// Only caches whose values are exact: the metrics see keys alone.
  void read_qualities(const std::string& path) {
    read_document(path, [&](const Json& json) {
      const auto schema = json.at("schema").get<std::string>();
      if (schema != "blockgtq.perplexity/1")
        fail_input("{}: schema: {}, blockgtq.perplexity/1 wanted", path, schema);
      for (const Json& model : json.at("models")) {
        if (model.at("status") != "ok") continue;
        for (const Json& cache : model.at("caches")) {
          if (cache.at("v_method") != "exact" || cache.at("k_method") == "exact") continue;
          const double value = number_or_nan(cache, o_.against.c_str());
          if (std::isnan(value)) continue;
          const Configuration key{model.at("name"), cache.at("k_method"), cache.at("k_bits"),
                                  exact_of(cache)};
          if (!quality_.emplace(key, value).second)
            fail_input("{}: {} at {:g} bits of {} came before", path, std::get<1>(key), std::get<2>(key),
                       std::get<0>(key));
        }
      }
    });
  }

  /// Over these configurations, each metric over those that have it.
  Row row(const std::string& title, const std::vector<Configuration>& of) const {
    Row row{title, of.size(), {}};
    for (const std::string& name : names_) {
      std::vector<double> x, y;
      for (const Configuration& c : of) {
        const auto found = metrics_.at(c).find(name);
        if (found == metrics_.at(c).end() || std::isnan(found->second)) continue;
        x.push_back(found->second);
        y.push_back(quality_.at(c));
      }
      row.correlation.push_back(x.size() >= kFewest ? rank_correlation(x, y) : std::nan(""));
    }
    return row;
  }

  /// The mean of correlations, each metric over the rows that have it.
  Row mean_row(const std::string& title, const std::vector<Row>& of) const {
    Row mean{title, 0, std::vector<double>(names_.size())};
    for (const Row& row : of) mean.n += row.n;
    for (size_t i = 0; i < names_.size(); ++i) {
      int n = 0;
      for (const Row& row : of)
        if (!std::isnan(row.correlation[i])) mean.correlation[i] += row.correlation[i], ++n;
      mean.correlation[i] /= n;  // none: NaN
    }
    return mean;
  }

  std::vector<Row> rows() const {
    std::map<std::string, std::vector<Configuration>> by_model;
    std::map<std::pair<double, ExactWindow>, std::map<std::string, std::vector<Configuration>>> by_bits;
    for (const Configuration& c : pairs_) {
      by_model[std::get<0>(c)].push_back(c);
      by_bits[{std::get<2>(c), std::get<3>(c)}][std::get<0>(c)].push_back(c);
    }
    std::vector<Row> rows, of_bits;
    for (const auto& [model, of] : by_model) rows.push_back(row(model, of));
    const std::vector<Row> of_models = rows;
    if (by_model.size() > 1) {
      rows.push_back(mean_row("mean of models", of_models));
      rows.push_back(row("pooled", pairs_));
    }
    for (const auto& [cache, models] : by_bits) {
      const auto& [bits, exact] = cache;
      const std::string positions = exact_text(exact);
      of_bits.clear();
      for (const auto& [model, of] : models)
        if (of.size() >= kFewest) of_bits.push_back(row(model, of));
      if (!of_bits.empty())
        rows.push_back(mean_row(fmt::format("methods at {} bits{}{}, mean of models", bits_text(bits),
                                            positions.empty() ? "" : ", ", positions),
                                of_bits));
    }
    return rows;
  }

  const Options& o_;
  std::map<Configuration, Metrics> metrics_;
  std::map<Configuration, double> quality_;
  std::vector<std::string> names_;  // of metrics, as they come
  std::vector<Configuration> pairs_;
};

}  // namespace

void add_correlate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "correlate", "Rank correlation of every metric of eval-logits with what perplexity measured");
  command->add_option("evaluations", o->evaluations, "EVAL.json of eval-logits --metrics, or panel.json")
      ->required();
  command->add_option("--with", o->with, "PERPLEXITY.json of perplexity; may be repeated")
      ->required()
      ->allow_extra_args(false);
  command->add_option("--against", o->against, "The model-level number")
      ->check(CLI::IsMember({"kl_mean", "kl_median", "kl_p99", "log_ratio", "same_top"}))
      ->capture_default_str();
  command->add_option("--json", o->json, "Results as JSON; - for standard output");
  command->add_option("--csv", o->csv, "The table as CSV; - for standard output");
  command->add_option("--md", o->markdown, "The table as Markdown; - for standard output");
  command->add_flag("--force", o->force, "Replace existing outputs");
  command->callback([o] {
    ResultFiles files(o->json, o->csv, o->markdown, o->force);
    const Correlation correlation(*o);
    const Table table = correlation.table();
    files.write(correlation.json(), table.csv(), table.markdown(),
                fmt::format("Spearman's rank correlation with {}\n\n", o->against) + table.text());
  });
}

}  // namespace blockgtq
