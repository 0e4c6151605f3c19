#include "evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "device.h"
#include "eval/bootstrap.h"
#include "eval/cuda_evaluate.h"
#include "eval_resume.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

/// {name: {value, low, high}}; no bounds where there is but one chunk, null where nothing could be counted.
Json metrics_json(const std::vector<MetricValue>& metrics) {
  Json json = Json::object();
  for (const MetricValue& m : metrics) {
    Json& value = json[name(m.metric)] = Json::object();
    value["value"] = std::isnan(m.value) ? Json() : Json(m.value);
    if (std::isnan(m.low)) continue;
    value["low"] = m.low;
    value["high"] = m.high;
  }
  return json;
}

}  // namespace

void check_same_attention(const AttentionShape& map, const AttentionShape& model) {
  auto differ = [](const char* what, auto a, auto b) {
    if (a != b) fail_input("the map does not fit the model: {}: map {}, model {}", what, a, b);
  };
  differ("layers", map.n_layers, model.n_layers);
  differ("query heads", map.n_heads, model.n_heads);
  differ("KV heads", map.n_kv_heads, model.n_kv_heads);
  differ("head dimension", map.layout.head_dim, model.layout.head_dim);
  if (map.layout != model.layout || map.metric_layout() != model.metric_layout())
    throw Error(Exit::input,
                fmt::format("the map does not fit the run: pairing: map {} over {}, run {} over {}",
                            name(map.layout.pairing), map.layout.rotary_dim, name(model.layout.pairing),
                            model.layout.rotary_dim),
                "a map of --compat reference is measured with --compat reference");
}

EvalSpec make_eval_spec(const EvalRequest& request, const AttentionShape& shape) {
  EvalSpec spec;
  spec.shape = shape;
  spec.raw_theta = request.theta == "raw";
  spec.methods = request.methods;
  spec.codebook = request.codebook;
  spec.window = request.window;
  spec.offsets = request.offsets;
  const BitMap* map = request.map;
  if (!map) {
    for (const std::string& method : request.methods)
      if (find_method(key_methods(), method)->needs_map)
        throw Error(Exit::usage, fmt::format("--map is needed for method {}", method));
    for (double bits : request.bits) spec.budgets.push_back({bits, {}});
    return spec;
  }
  check_same_attention(map->shape, shape);
  spec.seed = map->seed;
  spec.calibration = map->calibration;
  if (request.bits.empty()) {
    spec.budgets = map->budgets;
    return spec;
  }
  for (double bits : request.bits) {
    const Budget* budget = map->find(bits);
    if (!budget) {
      std::string held;
      for (const Budget& b : map->budgets)
        held += fmt::format("{}{:g}", held.empty() ? "" : ", ", b.average_bits);
      fail_input("the map has no budget of {:g} bits: it holds {}", bits, held);
    }
    spec.budgets.push_back(*budget);
  }
  return spec;
}

void add_metric_options(CLI::App& command, MetricOptions& o) {
  command
      .add_option("--metrics", o.metrics,
                  "Beside mae: mae-model, weighted, kl, topk, output (comma-separated), or all; with "
                  "intervals over chunks")
      ->capture_default_str();
  add_exact_options(command, o.exact, "Of metrics at real positions");
}

std::vector<Metric> chosen_metrics(const MetricOptions& o) {
  const std::vector<Metric> metrics = parse_metrics(o.metrics);
  if (o.exact != ExactWindow{} && std::none_of(metrics.begin(), metrics.end(), needs_attention))
    throw Error(
        Exit::usage,
        "--sink and --recent: mae has no positions: give --metrics weighted, kl, topk, output or all");
  return metrics;
}

void set_metrics(EvalSpec& spec, const MetricOptions& o, const std::optional<AttentionShape>& model,
                 int64_t chunk, Progress& progress) {
  spec.model = model;
  spec.chunk = chunk;
  std::vector<std::string> impossible;
  bool same = model && model->metric_layout() == spec.shape.metric_layout();
  for (int l = 0; same && l < spec.shape.n_layers; ++l) same = model->rope(l).inv_freq == spec.frequencies(l);
  for (const Metric metric : chosen_metrics(o)) {
    if (metric != Metric::mae && !model) {
      spec.left_out.push_back({metric, "a dump of --compat reference does not say how the model pairs"});
      impossible.push_back(name(metric));
    } else if (metric == Metric::mae_model && same) {
      spec.left_out.push_back({metric, "mae is on the model's own frequencies"});
    } else if (needs_attention(metric) && spec.shape.v_dim == 0) {
      spec.left_out.push_back(
          {metric, "latent attention: the keys seen here are but the rotary part of a logit"});
      impossible.push_back(name(metric));
    } else if (needs_attention(metric) && (model->softcap != 0 || model->sinks)) {
      spec.left_out.push_back(
          {metric, model->sinks ? "the model's heads have learned sinks" : "the model caps its logits"});
      impossible.push_back(name(metric));
    } else {
      spec.metrics.push_back(metric);
    }
  }
  if (spec.at_real_positions()) spec.exact = o.exact;
  if (!impossible.empty())
    progress.warn(fmt::format("left out: {}: {}", fmt::join(impossible, ", "), spec.left_out.back().reason));
}

void warn_clipped(int64_t clipped, const std::string& of, Progress& progress) {
  if (clipped > 0)
    progress.warn(
        fmt::format("{} fp16 norms or scales of {} are beyond 65504 and were cut to it", clipped, of));
}

void warn_clipped(const std::vector<LayerResult>& layers, Progress& progress) {
  int64_t clipped = 0;
  std::vector<std::string> methods;
  std::vector<int> where;
  for (const LayerResult& layer : layers)
    for (const MethodResult& r : layer.results) {
      if (r.clipped == 0) continue;
      clipped += r.clipped;
      if (std::find(methods.begin(), methods.end(), r.method) == methods.end()) methods.push_back(r.method);
      if (where.empty() || where.back() != layer.layer) where.push_back(layer.layer);
    }
  warn_clipped(clipped, fmt::format("{} in layers {}", fmt::join(methods, ", "), fmt::join(where, ", ")),
               progress);
}

std::vector<LayerResult> evaluate_session(const EvalSpec& spec, Session& session, Progress& progress,
                                          ResumeFile* resume) {
  std::vector<LayerResult> layers;
  const size_t residual_size = size_t(session.n_tokens() * session.model->config().hidden);
  const LayerBoundary start = resume ? load_results(*resume, layers, residual_size) : LayerBoundary();
  std::optional<CudaEvaluator> on_device;
  if (session.device == "cuda" && spec.metrics.empty()) on_device.emplace(spec);
  const auto so_far = [&] {
    std::vector<LayerResult> all = layers;
    if (on_device)
      for (LayerResult& layer : on_device->finish()) all.push_back(std::move(layer));
    return all;
  };
  ForwardRequest request;
  request.tokens = session.corpus.ids;
  request.chunk = session.chunk;
  request.progress = &progress;
  if (start.layer > 0) request.start = &start;
  request.on_layer = [&](LayerActivations& acts) {
    if (on_device) return on_device->add_layer(acts.layer, acts.q, acts.k, acts.n_tokens, acts.stream);
    const HostActivations host(acts, session.shape);
    layers.push_back(evaluate_layer(spec, acts.layer, host.q, host.k, acts.n_tokens, host.v));
  };
  if (resume)
    request.on_boundary = [&](int layer, const std::function<std::span<const float>()>& residual) {
      if (resume->due()) save_results(*resume, so_far(), layer, residual());
    };
  session.backend->forward(*session.model, request);
  layers = so_far();
  warn_clipped(layers, progress);
  return layers;
}

Json eval_json(const EvalSpec& spec, const std::vector<LayerResult>& layers, const Provenance& provenance,
               int64_t n_tokens, int64_t chunk, const std::string& device) {
  Json json;
  json["schema"] = "blockgtq.eval-logits/1";
  auto found =
      std::find_if(provenance.begin(), provenance.end(), [](const auto& p) { return p.first == "model"; });
  json["model"] = found == provenance.end() ? "" : found->second;
  json["window"] = spec.window;
  json["offsets"] = spec.offsets;
  json["tokens"] = n_tokens;
  json["chunk"] = chunk;
  json["device"] = device;
  json["pairing"] = name(spec.shape.layout.pairing);
  json["codebook"] = name(spec.codebook);
  const std::vector<Rope>& ropes = spec.shape.ropes;
  const bool unscaled =
      std::all_of(ropes.begin(), ropes.end(), [](const Rope& r) { return r.inv_freq == r.inv_freq_raw; });
  json["theta"] = !spec.raw_theta || unscaled ? "model" : "raw";
  if (spec.at_real_positions()) {
    json["sink"] = spec.exact.sink;
    json["recent"] = spec.exact.recent;
  }
  if (!spec.metrics.empty())
    json["intervals"] = {{"confidence", 0.95}, {"resamples", kResamples}, {"of", "chunks"}};
  for (const LeftOut& metric : spec.left_out) json["left_out"][name(metric.metric)] = metric.reason;
  Json& rows = json["layers"] = Json::array();
  for (const LayerResult& layer : layers) {
    Json row;
    row["layer"] = layer.layer;
    if (!std::isnan(layer.sink_attention)) row["sink_attention"] = layer.sink_attention;
    for (const MethodResult& r : layer.results) {
      Json result;
      result["method"] = r.method;
      result["bits"] = r.bits;
      result["mae"] = r.mae;
      result["mae_per_kv_head"] = r.mae_per_kv_head;
      result["effective_bits"] = r.effective_bits;
      result["bytes_per_token"] = r.bytes_per_token;
      if (r.interpolated) result["interpolated"] = true;
      if (r.clipped > 0) result["clipped"] = r.clipped;
      if (!r.metrics.empty()) result["metrics"] = metrics_json(r.metrics);
      row["results"].push_back(std::move(result));
    }
    rows.push_back(std::move(row));
  }
  for (const SummaryRow& s : summarize(layers)) {
    Json row;
    row["method"] = s.method;
    row["bits"] = s.bits;
    row["mae"] = s.mae;
    row["ratio_to_tq_mse"] = std::isnan(s.ratio_to_tq_mse) ? Json() : Json(s.ratio_to_tq_mse);
    row["ratio_at_equal_bytes"] = std::isnan(s.ratio_at_equal_bytes) ? Json() : Json(s.ratio_at_equal_bytes);
    row["wins"] = s.wins;
    row["layers"] = s.layers;
    row["effective_bits"] = s.effective_bits;
    row["bytes_per_token"] = s.bytes_per_token;
    if (!s.metrics.empty()) row["metrics"] = metrics_json(s.metrics);
    json["summary"].push_back(std::move(row));
  }
  Json& origin = json["provenance"] = Json::object();
  for (const auto& [key, value] : provenance) origin[key] = value;
  return json;
}

const Budget& choose_budget(const BitMap& map, const std::string& bits) {
  if (bits.empty()) {
    if (map.budgets.size() != 1)
      throw Error(Exit::usage,
                  fmt::format("the map holds {} budgets: choose one with --bits", map.budgets.size()));
    return map.budgets[0];
  }
  const std::vector<double> wanted = parse_bits(bits);
  const Budget* budget = wanted.size() == 1 ? map.find(wanted[0]) : nullptr;
  if (!budget) throw Error(Exit::usage, fmt::format("--bits: {} is not one budget of the map", bits));
  return *budget;
}

}  // namespace blockgtq
