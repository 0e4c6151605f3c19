#include "measures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "report/number.h"

namespace blockgtq {
namespace {

constexpr size_t kMaxResultBytes = size_t(64) << 20;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kTwoSided = 1.959963984540054;  // standard errors of a 95 % interval

double number(const Json& row, const std::string& name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_number() ? found->get<double>() : kNone;
}

/// A scalar as the reader of a table wants it; empty for lists, objects and null.
std::string scalar(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return exact(value.get<double>());
  return value.is_number() || value.is_boolean() ? value.dump() : "";
}

std::string key_text(const Measure& m) {
  std::string text;
  for (const std::string& part : m.key) text += part + " ";
  return text + m.metric;
}

/// A number and the fields that say how sure it is: its standard error, or the ends of an interval.
struct Field {
  const char *name, *error = "", *low = "", *high = "";
};

/// A list of rows: fields that tell them apart, and what was measured.
struct RowForm {
  const char* schema;
  std::vector<const char*> key;
  std::vector<Field> fields;
};

const std::vector<RowForm>& bench_forms() {
  static const std::vector<RowForm> forms = {
      {"blockgtq.bench-attention/1", {"keys", "bits", "batch", "context"}, {{"microseconds"}}},
      {"blockgtq.bench-prefill/2", {"keys", "bits", "batch", "context", "chunk"}, {{"microseconds"}}},
      {"blockgtq.bench-encode/2", {"keys", "bits", "tokens"}, {{"microseconds"}}},
      {"blockgtq.bench-decode/1",
       {"kv", "batch", "context"},
       {{"milliseconds", "", "milliseconds_p5", "milliseconds_p95"},
        {"peak_bytes"},
        {"longest_context"},
        {"prefill_tokens_per_second"}}}};
  return forms;
}

const RowForm& cache_form() {
  static const RowForm form = {"blockgtq.perplexity/1",
                               {"pair", "k_method", "v_method", "code", "sink", "recent"},
                               {{"bytes_per_token"},
                                {"perplexity", "perplexity_error"},
                                {"kl_mean", "kl_error"},
                                {"kl_median"},
                                {"kl_p99"},
                                {"same_top"}}};
  return form;
}

class Reader {
 public:
  explicit Reader(const std::string& path) {
    found_.path = path;
    const Json json = read_json(path, kMaxResultBytes);
    try {
      found_.schema = json.at("schema").get<std::string>();
      read(json);
    } catch (const nlohmann::json::exception& e) {
      fail_input("{}: not a document of ours: {}", path, e.what());
    }
    std::set<std::string> keys;
    for (const Measure& m : found_.all)
      if (!keys.insert(key_text(m)).second) fail_input("{}: {}: measured twice", path, key_text(m));
  }
  Measures take() { return std::move(found_); }

 private:
  void read(const Json& json) {
    add_run(json, "");
    if (found_.schema == "blockgtq.eval-logits/1") return read_evaluations({{json.at("model"), json}});
    if (found_.schema == "blockgtq.panel/1") {
      std::vector<std::pair<std::string, Json>> models;
      for (const Json& model : json.at("models"))
        if (model.at("status") == "ok") models.emplace_back(model.at("name"), model.at("eval"));
      return read_evaluations(models);
    }
    if (found_.schema == "blockgtq.perplexity/1") return read_qualities(json);
    if (found_.schema == "blockgtq.bench-diagnostics/1") return read_phases(json);
    for (const RowForm& form : bench_forms())
      if (found_.schema == form.schema) {
        found_.columns.assign(form.key.begin(), form.key.end());
        for (const Json& row : json.at("rows")) add_row(form, {}, row);
        return;
      }
    fail_input("{}: schema: {}, a result of eval-logits, panel, perplexity or bench wanted", found_.path,
               found_.schema);
  }

  /// Scalars of the run, by dotted names; what was measured stands elsewhere.
  void add_run(const Json& json, const std::string& prefix) {
    for (const auto& [name, value] : json.items()) {
      if (name == "schema" || name == "milliseconds") continue;
      if (value.is_object() && (name == "provenance" || name == "exact" || name == "noise_floor")) {
        if (name == "provenance") add_run(value, prefix);
      } else if (const std::string text = scalar(value); !text.empty()) {
        found_.run.emplace_back(prefix + name, text);
      }
    }
  }

  void add_row(const RowForm& form, std::vector<std::string> key, const Json& row) {
    for (const char* name : form.key) key.push_back(scalar(row.at(name)));
    for (const Field& field : form.fields) {
      Measure m{key, field.name, number(row, field.name)};
      if (std::isnan(m.value)) continue;
      if (*field.error) {
        const double half = kTwoSided * number(row, field.error);
        m.low = m.value - half;
        m.high = m.value + half;
      }
      if (*field.low) m.low = number(row, field.low), m.high = number(row, field.high);
      found_.all.push_back(std::move(m));
    }
  }

  void read_evaluations(const std::vector<std::pair<std::string, Json>>& models) {
    found_.columns = {"model", "bits", "method"};
    for (const auto& [name, evaluation] : models) {
      if (found_.schema == "blockgtq.panel/1") add_run(evaluation, name + ": ");
      for (const Json& row : evaluation.at("summary")) {
        const std::vector<std::string> key = {name, scalar(row.at("bits")), row.at("method")};
        Measure mae{key, "mae", row.at("mae").get<double>()};
        for (const Json& layer : evaluation.at("layers"))
          for (const Json& result : layer.at("results"))
            if (result.at("method") == row.at("method") && result.at("bits") == row.at("bits"))
              mae.layers.push_back(number(result, "mae"));
        const Json metrics = row.value("metrics", Json::object());
        if (const auto own = metrics.find("mae"); own != metrics.end())
          mae.low = number(*own, "low"), mae.high = number(*own, "high");
        found_.all.push_back(std::move(mae));
        for (const auto& [metric, value] : metrics.items())
          if (metric != "mae" && !std::isnan(number(value, "value")))
            found_.all.push_back(
                {key, metric, number(value, "value"), number(value, "low"), number(value, "high"), {}});
        found_.all.push_back({key, "bytes_per_token", row.at("bytes_per_token").get<double>()});
      }
    }
  }

  void read_qualities(const Json& json) {
    found_.columns = {"model"};
    found_.columns.insert(found_.columns.end(), cache_form().key.begin(), cache_form().key.end());
    for (const Json& model : json.at("models")) {
      if (model.at("status") != "ok") continue;
      const std::string name = model.at("name");
      add_run(model, name + ": ");
      Json exact = model.at("exact");
      for (const char* column : cache_form().key) exact[column] = "exact";
      add_row(cache_form(), {name}, exact);
      for (const Json& cache : model.at("caches")) add_row(cache_form(), {name}, cache);
    }
  }

  void read_phases(const Json& json) {
    found_.columns = {"phase"};
    for (const auto& [phase, ms] : json.at("milliseconds").items())
      found_.all.push_back({{phase}, "milliseconds", ms.get<double>()});
  }

  Measures found_;
};

}  // namespace

Measures read_measures(const std::string& path) {
  return Reader(path).take();
}

}  // namespace blockgtq
