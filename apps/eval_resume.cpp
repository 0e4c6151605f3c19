#include "eval_resume.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace blockgtq {
namespace {

/// Every real number of the results of a layer, in one order; not as JSON, which knows no NaN.
template <class Layer, class Each>
void each_number(Layer& layer, const Each& each) {
  each(layer.sink_attention);
  for (auto& r : layer.results) {
    each(r.mae);
    for (auto& mae : r.mae_per_kv_head) each(mae);
    each(r.effective_bits);
    each(r.bytes_per_token);
    for (auto& m : r.metrics) {
      each(m.value);
      each(m.low);
      each(m.high);
      for (auto& chunk : m.chunks) {
        each(chunk.sum);
        each(chunk.count);
      }
    }
  }
}

/// All but those numbers.
Json frame_of(const MethodResult& r) {
  Json metrics = Json::array();
  for (const MetricValue& m : r.metrics) metrics.push_back({int(m.metric), m.chunks.size()});
  return {{"method", r.method},
          {"bits", r.bits},
          {"interpolated", r.interpolated},
          {"clipped", r.clipped},
          {"heads", r.mae_per_kv_head.size()},
          {"metrics", std::move(metrics)}};
}

MethodResult framed(const Json& frame) {
  MethodResult r;
  r.method = frame.at("method");
  r.bits = frame.at("bits");
  r.interpolated = frame.at("interpolated");
  r.clipped = frame.at("clipped");
  r.mae_per_kv_head.resize(frame.at("heads"));
  for (const Json& m : frame.at("metrics"))
    r.metrics.push_back({Metric(m.at(0).get<int>()), 0, 0, 0, std::vector<ChunkSum>(m.at(1))});
  return r;
}

}  // namespace

void save_results(ResumeFile& resume, const std::vector<LayerResult>& layers, int layer,
                  std::span<const float> residual) {
  Json frames = Json::array();
  std::vector<double> numbers;
  for (const LayerResult& l : layers) {
    Json& frame = frames.emplace_back(Json{{"layer", l.layer}, {"results", Json::array()}});
    for (const MethodResult& r : l.results) frame["results"].push_back(frame_of(r));
    each_number(l, [&](double x) { numbers.push_back(x); });
  }
  const Json state = {{"layer", layer},
                      {"residual", residual.size()},
                      {"numbers", numbers.size()},
                      {"layers", std::move(frames)}};
  resume.save(state, {{"numbers", numbers}, {"residual", residual}});
}

LayerBoundary load_results(const ResumeFile& resume, std::vector<LayerResult>& layers, size_t residual_size) {
  const Json* state = resume.state();
  if (!state) return {};
  const std::vector<double> numbers = resume.array<double>("numbers", state->at("numbers"));
  size_t n_read = 0;
  for (const Json& frame : state->at("layers")) {
    LayerResult& l = layers.emplace_back(LayerResult{frame.at("layer"), {}});
    for (const Json& result : frame.at("results")) l.results.push_back(framed(result));
    each_number(l, [&](double& x) { x = numbers.at(n_read++); });
  }
  check(n_read == numbers.size(), "results with other numbers");
  return {state->at("layer"), resume.array<float>("residual", residual_size)};
}

}  // namespace blockgtq
