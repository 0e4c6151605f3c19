#include "quality_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "report/number.h"

namespace blockgtq {
namespace {

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

std::string method_text(const std::string& method) {
  return method.empty() ? "exact" : method;
}

Json spec_json(const CacheSpec& spec) {
  return {{"pair", pair_text(spec.bits)},
          {"k_method", method_text(spec.k_method)},
          {"v_method", method_text(spec.v_method)},
          {"k_bits", spec.bits.k},
          {"v_bits", spec.bits.v},
          {"code", code_text(spec)},
          {"sink", spec.exact.sink},
          {"recent", spec.exact.recent}};
}

Json quality_fields(const Quality& q) {
  return {{"perplexity", number(q.perplexity)}, {"perplexity_error", number(q.perplexity_error)},
          {"log_ratio", number(q.log_ratio)},   {"log_ratio_error", number(q.log_ratio_error)},
          {"kl_mean", number(q.kl_mean)},       {"kl_error", number(q.kl_error)},
          {"kl_median", number(q.kl_median)},   {"kl_p99", number(q.kl_p99)},
          {"kl_max", number(q.kl_max)},         {"same_top", number(q.same_top)}};
}

Json cache_json(const CacheQuality& c) {
  Json json = spec_json(c.spec);
  json["k_bytes_per_token"] = c.key_bytes;
  json["v_bytes_per_token"] = c.value_bytes;
  json["bytes_per_token"] = c.key_bytes + c.value_bytes;
  json.update(quality_fields(c.quality));
  return json;
}

Json model_json(const ModelQuality& m) {
  Json json = {
      {"name", m.name},
      {"status", "ok"},
      {"codebook", name(m.codebook)},
      {"cache", m.pages ? "pages" : "by method"},
      {"tokens", m.n_tokens},
      {"predicted", m.exact.n_predicted},
      {"chunk", m.chunk},
      {"device", m.device},
      {"exact",
       {{"perplexity", number(m.exact.perplexity)}, {"perplexity_error", number(m.exact.perplexity_error)}}}};
  if (!m.caches.empty())
    json["noise_floor"] = {{"kl_mean", number(m.exact.kl_mean)},
                           {"kl_max", number(m.exact.kl_max)},
                           {"same_top", number(m.exact.same_top)}};
  json["caches"] = Json::array();
  for (const CacheQuality& c : m.caches) json["caches"].push_back(cache_json(c));
  for (const Choice& choice : m.choices) {
    Json row = {{"reference", spec_json(choice.reference)},
                {"chosen", spec_json(choice.chosen)},
                {"candidates", Json::array()}};
    for (const CacheQuality& c : choice.candidates) row["candidates"].push_back(cache_json(c));
    json["choices"].push_back(std::move(row));
  }
  json["provenance"] = Json::object();
  for (const auto& [key, value] : m.provenance) json["provenance"][key] = value;
  return json;
}

std::string with_error(double value, double error) {
  return std::isnan(error) ? three_digits(value)
                           : fmt::format("{} ± {}", three_digits(value), three_digits(error));
}

std::string bytes_text(double bytes) {
  return fmt::format("{:g}", bytes);
}

/// exp(mean(log)); zero where one is, and a single value as it is.
class GeometricMean {
 public:
  void add(double value) {
    log_sum_ += std::log(value);
    last_ = value;
    ++n_;
  }
  double value() const { return n_ == 1 ? last_ : std::exp(log_sum_ / n_); }

 private:
  double log_sum_ = 0, last_ = 0;
  int n_ = 0;
};

const CacheQuality* find(const ModelQuality& model, const CacheSpec& spec) {
  for (const CacheQuality& c : model.caches)
    if (c.spec == spec) return &c;
  return nullptr;
}

}  // namespace

Json quality_json(const std::vector<ModelQuality>& models, const std::vector<ModelFailure>& failures) {
  Json json;
  json["schema"] = "blockgtq.perplexity/1";
  json["models"] = Json::array();
  for (const ModelQuality& m : models) json["models"].push_back(model_json(m));
  for (const ModelFailure& f : failures)
    json["models"].push_back({{"name", f.name}, {"status", "failed"}, {"error", f.error}});
  return json;
}

Table quality_table(const ModelQuality& m) {
  if (m.caches.empty()) {
    Table exact({"cache", "perplexity", "tokens", "predicted"});
    exact.row({"exact", with_error(m.exact.perplexity, m.exact.perplexity_error), std::to_string(m.n_tokens),
               std::to_string(m.exact.n_predicted)});
    return exact;
  }
  Table table({"cache", "K method", "V method", "bytes/token", "perplexity", "KL mean", "KL median",
               "KL 99 %", "same top"});
  table.row({"exact", "exact", "exact", "", with_error(m.exact.perplexity, m.exact.perplexity_error),
             three_digits(m.exact.kl_mean), three_digits(m.exact.kl_median), three_digits(m.exact.kl_p99),
             percent(m.exact.same_top)});
  for (const CacheQuality& c : m.caches) {
    const Quality& q = c.quality;
    table.row({width_text(c.spec), method_text(c.spec.k_method), method_text(c.spec.v_method),
               bytes_text(c.key_bytes + c.value_bytes), with_error(q.perplexity, q.perplexity_error),
               with_error(q.kl_mean, q.kl_error), three_digits(q.kl_median), three_digits(q.kl_p99),
               percent(q.same_top)});
  }
  return table;
}

Table quality_rows(const std::vector<ModelQuality>& models) {
  Table table({"model",
               "cache",
               "k_method",
               "v_method",
               "k_bits",
               "v_bits",
               "code",
               "sink",
               "recent",
               "k_bytes_per_token",
               "v_bytes_per_token",
               "perplexity",
               "perplexity_error",
               "log_ratio",
               "log_ratio_error",
               "kl_mean",
               "kl_error",
               "kl_median",
               "kl_p99",
               "kl_max",
               "same_top"});
  auto add = [&](const ModelQuality& m, const CacheQuality& c) {
    std::vector<std::string> row = {m.name, pair_text(c.spec.bits), method_text(c.spec.k_method),
                                    method_text(c.spec.v_method)};
    const Quality& q = c.quality;
    for (const double bits : {c.spec.bits.k, c.spec.bits.v}) row.push_back(exact(bits));
    row.push_back(code_text(c.spec));
    for (double value : {double(c.spec.exact.sink), double(c.spec.exact.recent), c.key_bytes, c.value_bytes,
                         q.perplexity, q.perplexity_error, q.log_ratio, q.log_ratio_error, q.kl_mean,
                         q.kl_error, q.kl_median, q.kl_p99, q.kl_max, q.same_top})
      row.push_back(exact(value));
    table.row(row);
  };
  for (const ModelQuality& m : models) {
    add(m, {{}, 0, 0, m.exact});
    for (const CacheQuality& c : m.caches) add(m, c);
  }
  return table;
}

std::vector<CacheMean> cache_means(const std::vector<ModelQuality>& models,
                                   std::vector<std::string>& left_out) {
  const ModelQuality* fullest = &models.at(0);
  for (const ModelQuality& m : models)
    if (m.caches.size() > fullest->caches.size()) fullest = &m;
  std::vector<const ModelQuality*> full;
  for (const ModelQuality& m : models) {
    const bool all = std::all_of(fullest->caches.begin(), fullest->caches.end(),
                                 [&](const CacheQuality& c) { return find(m, c.spec) != nullptr; });
    if (all)
      full.push_back(&m);
    else
      left_out.push_back(m.name);
  }
  std::vector<CacheMean> means;
  for (const CacheQuality& cache : fullest->caches) {
    GeometricMean bytes, kl;
    for (const ModelQuality* m : full) {
      const CacheQuality& c = *find(*m, cache.spec);
      bytes.add(c.key_bytes + c.value_bytes);
      kl.add(c.quality.kl_mean);
    }
    means.push_back({cache.spec, bytes.value(), kl.value()});
  }
  return means;
}

Table quality_grid(const std::vector<ModelQuality>& models, std::vector<std::string>& left_out) {
  const std::vector<CacheMean> means = cache_means(models, left_out);
  std::vector<CacheSpec> columns;  // without methods
  std::vector<std::string> k_methods, v_methods;
  auto note = [](auto& list, const auto& value) {
    if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
  };
  for (const CacheMean& c : means) {
    note(columns, CacheSpec{"", "", c.spec.bits, c.spec.exact, c.spec.code});
    if (!c.spec.k_method.empty()) note(k_methods, c.spec.k_method);
    if (!c.spec.v_method.empty()) note(v_methods, c.spec.v_method);
  }
  if (k_methods.empty()) k_methods = {""};
  if (v_methods.empty()) v_methods = {""};

  std::vector<std::string> header = {"K method", "V method"};
  for (const CacheSpec& column : columns) header.push_back(width_text(column));
  Table table(header);
  for (const std::string& k : k_methods)
    for (const std::string& v : v_methods) {
      std::vector<std::string> row = {method_text(k), method_text(v)};
      for (const CacheSpec& column : columns) {
        const CacheSpec spec{column.bits.k ? k : "", column.bits.v ? v : "", column.bits, column.exact,
                             column.code};
        const auto mean =
            std::find_if(means.begin(), means.end(), [&](const CacheMean& c) { return c.spec == spec; });
        row.push_back(fmt::format("{:.4f}", mean == means.end() ? std::nan("") : mean->kl));
      }
      table.row(row);
    }
  return table;
}

Table choice_table(const std::vector<ModelQuality>& models) {
  Table table(
      {"model", "reference", "chosen by calibration", "bytes", "chosen bytes", "KL", "chosen KL", "ratio"});
  std::map<std::string, GeometricMean> means;
  for (const ModelQuality& m : models)
    for (const Choice& choice : m.choices) {
      const CacheQuality &reference = *find(m, choice.reference), &chosen = *find(m, choice.chosen);
      const double ratio = chosen.quality.kl_mean / reference.quality.kl_mean;
      means[describe(reference.spec)].add(ratio);
      table.row({m.name, describe(reference.spec), describe(chosen.spec),
                 bytes_text(reference.key_bytes + reference.value_bytes),
                 bytes_text(chosen.key_bytes + chosen.value_bytes), three_digits(reference.quality.kl_mean),
                 three_digits(chosen.quality.kl_mean), three_digits(ratio)});
    }
  for (const auto& [reference, mean] : means)
    table.row({"geometric mean", reference, "", "", "", "", "", three_digits(mean.value())});
  return table;
}

}  // namespace blockgtq
