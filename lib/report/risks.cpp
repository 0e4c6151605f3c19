#include "report/risks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "report/chart.h"
#include "report/number.h"
#include "report/table.h"

namespace blockgtq {
namespace {

// From where on a layer is named.
constexpr double kMuchSink = 0.5, kLongKeys = 10, kMuchMean = 0.5;

/// Layers whose number is at least this, and the largest of them.
struct Flag {
  std::vector<int> layers;
  double most = 0;

  void see(int layer, double value, double least) {
    if (!(value >= least)) return;
    layers.push_back(layer);
    most = std::max(most, value);
  }
  /// "layer 3" or "layers 0, 1 and 7 (12 of 30 layers)"
  std::string where(size_t n_layers) const {
    if (layers.size() == n_layers) return n_layers == 1 ? "the only layer" : "all layers";
    constexpr size_t kNamed = 8;
    if (layers.size() > kNamed) return fmt::format("{} of {} layers", layers.size(), n_layers);
    return fmt::format("layer{} {}", layers.size() == 1 ? "" : "s", fmt::join(layers, ", "));
  }
};

double number(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found == row.end() || found->is_null() ? NAN : found->get<double>();
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

Json layer_norms(const Stats& stats) {
  const AttentionShape& shape = stats.shape;
  const auto tokens = double(stats.n_tokens());
  Json rows = Json::array();
  for (int l = 0; l < shape.n_layers; ++l) {
    const LayerStats& layer = stats.layers[size_t(l)];
    const double keys = sum_of(layer.k2) / (tokens * shape.n_kv_heads);  // E |k|^2
    const size_t n = size_t(shape.n_kv_heads) * size_t(shape.layout.head_dim);
    std::vector<double> key_sum(n);
    for (size_t i = 0; i < layer.k_sum.size(); ++i) key_sum[i % n] += layer.k_sum[i];
    double of_mean = 0;  // |E k|^2, mean over heads
    for (const double k : key_sum) of_mean += k / tokens * (k / tokens) / shape.n_kv_heads;
    Json row = {{"layer", l},
                {"query", std::sqrt(sum_of(layer.q2) / (tokens * shape.n_heads))},
                {"key", std::sqrt(keys)},
                {"key_mean_share", keys > 0 ? of_mean / keys : 0}};
    if (shape.v_dim > 0) {
      const std::vector<double> vv = layer.vv.total();  // (H, Dv, Dv)
      const size_t dim = size_t(shape.v_dim);
      double trace = 0;
      for (size_t i = 0; i < vv.size(); ++i)
        if (i / dim % dim == i % dim) trace += vv[i];
      const double value = std::sqrt(trace / (tokens * shape.n_kv_heads));
      row["value"] = value;
      if (value > 0) row["key_to_value"] = std::sqrt(keys) / value;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string risk_section(const Json& norms, const Json& layers) {
  const bool has_norms = norms.is_array() && !norms.empty();
  bool has_sink = false;
  for (const Json& layer : layers) has_sink |= layer.contains("sink_attention");
  if (!has_norms && !has_sink) return "";

  std::vector<std::string> head = {"layer"};
  if (has_sink) head.emplace_back("attention on the sink");
  if (has_norms)
    head.insert(head.end(), {"query norm", "key norm", "value norm", "key / value", "mean's share of keys"});
  Table table(head);
  Flag sink, long_keys, mean;
  const size_t n = has_norms ? norms.size() : layers.size();
  for (size_t l = 0; l < n; ++l) {
    std::vector<std::string> row = {std::to_string(l)};
    if (has_sink) {
      const double share = l < layers.size() ? number(layers[l], "sink_attention") : NAN;
      row.push_back(percent(share));
      sink.see(int(l), share, kMuchSink);
    }
    if (has_norms) {
      for (const char* key : {"query", "key", "value", "key_to_value"})
        row.push_back(three_digits(number(norms[l], key)));
      row.push_back(percent(number(norms[l], "key_mean_share")));
      long_keys.see(int(l), number(norms[l], "key_to_value"), kLongKeys);
      mean.see(int(l), number(norms[l], "key_mean_share"), kMuchMean);
    }
    table.row(row);
  }

  std::string flags;
  if (!sink.layers.empty())
    flags += fmt::format(
        "<li>The first positions take up to {} of the attention of later queries in {}: an error of their "
        "keys "
        "reaches every query, so hold them exactly (--sink 4).</li>\n",
        percent(sink.most), sink.where(n));
  if (!long_keys.layers.empty())
    flags += fmt::format(
        "<li>Keys are up to {} times as long as values in {}: an error of the same relative size does more "
        "harm "
        "in keys, so give keys the larger share of the bits.</li>\n",
        three_digits(long_keys.most), long_keys.where(n));
  if (!mean.layers.empty())
    flags += fmt::format(
        "<li>Up to {} of the energy of keys is that of their mean in {}: methods that take the mean off "
        "before "
        "they quantize have less to encode.</li>\n",
        percent(mean.most), mean.where(n));
  if (flags.empty()) flags = "<li>Nothing stands out.</li>\n";
  return "<ul class=\"flags\">\n" + flags +
         "</ul>\n<details><summary>Attention and norms of every layer</summary>" +
         table.html("Attention and norms of every layer") + "</details>\n";
}

}  // namespace blockgtq
