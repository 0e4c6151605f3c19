#include "stats_resume.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace blockgtq {
namespace {

using Arrays = std::vector<ResumeFile::Array>;

constexpr int kBehindAll = 1 << 30;  // a layer that no model has

/// [first, count] of the nodes, their values behind `arrays`.
Json keep(const DyadicSum& sum, const std::string& name, Arrays& arrays) {
  Json nodes = Json::array();
  for (const DyadicSum::Node& node : sum.nodes()) {
    arrays.emplace_back(fmt::format("{}/{}", name, nodes.size()), node.value);
    nodes.push_back({node.first, node.count});
  }
  return nodes;
}

DyadicSum nodes_of(const ResumeFile& resume, const Json& nodes, const std::string& name, int64_t size) {
  std::vector<DyadicSum::Node> read;
  for (const Json& node : nodes)
    read.push_back({node.at(0), node.at(1),
                    resume.array<double>(fmt::format("{}/{}", name, read.size()), size_t(size))});
  DyadicSum sum;
  sum.set_nodes(std::move(read));
  return sum;
}

Json keep_layers(const Stats& stats, Arrays& arrays) {
  Json layers = Json::array();
  for (int l = 0; l < n_summed(stats); ++l) {
    const LayerStats& s = stats.layers[size_t(l)];
    const std::string name = fmt::format("{}/", l);
    arrays.emplace_back(name + "q2", s.q2);
    arrays.emplace_back(name + "k2", s.k2);
    arrays.emplace_back(name + "k_sum", s.k_sum);
    arrays.emplace_back(name + "v_sum", s.v_sum);
    arrays.emplace_back(name + "k_sample", s.k_sample);
    arrays.emplace_back(name + "v_sample", s.v_sample);
    layers.push_back({{"kk", keep(s.kk, name + "kk", arrays)},
                      {"vv", keep(s.vv, name + "vv", arrays)},
                      {"k_sample", s.k_sample.size()},
                      {"v_sample", s.v_sample.size()}});
  }
  return layers;
}

}  // namespace

int n_summed(const Stats& stats) {
  int n = 0;
  while (n < int(stats.layers.size()) && !stats.layers[size_t(n)].q2.empty()) ++n;
  return n;
}

void save_stats(ResumeFile& resume, const Stats& stats, int layer, std::span<const float> residual) {
  Arrays arrays;
  Json state = {{"layer", layer}, {"residual", residual.size()}, {"layers", keep_layers(stats, arrays)}};
  arrays.emplace_back("residual", residual);
  resume.save(state, arrays);
}

void end_stats(ResumeFile& resume, const Stats& stats) {
  Arrays arrays;
  resume.end({{"layer", kBehindAll}, {"residual", 0}, {"layers", keep_layers(stats, arrays)}}, arrays);
}

LayerBoundary load_stats(ResumeFile& resume, Stats& stats, size_t residual_size) {
  const Json* state = resume.state();
  if (!state) return {};
  LayerBoundary at{state->at("layer"), {}};
  if (const size_t n = state->at("residual"); n > 0) at.x = resume.array<float>("residual", n);
  check(at.x.empty() || at.x.size() == residual_size, "a residual stream of another size");
  const AttentionShape& shape = stats.shape;
  const int64_t heads = shape.n_kv_heads, chunks = stats.n_chunks() * heads, dim = shape.layout.head_dim;
  for (size_t l = 0; l < state->at("layers").size(); ++l) {
    const Json& layer = state->at("layers")[l];
    LayerStats& s = stats.layers.at(l);
    const std::string name = fmt::format("{}/", l);
    s.q2 = resume.array<double>(name + "q2", size_t(chunks * shape.layout.n_blocks()));
    s.k2 = resume.array<double>(name + "k2", s.q2.size());
    s.k_sum = resume.array<double>(name + "k_sum", size_t(chunks * dim));
    s.v_sum = resume.array<double>(name + "v_sum", size_t(chunks * shape.v_dim));
    s.kk = nodes_of(resume, layer.at("kk"), name + "kk", heads * dim * dim);
    s.vv = nodes_of(resume, layer.at("vv"), name + "vv", heads * shape.v_dim * shape.v_dim);
    s.k_sample = resume.array<float>(name + "k_sample", layer.at("k_sample"));
    s.v_sample = resume.array<float>(name + "v_sample", layer.at("v_sample"));
  }
  return at;
}

}  // namespace blockgtq
