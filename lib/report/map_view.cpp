#include "report/map_view.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "report/chart.h"
#include "report/number.h"
#include "report/page.h"

namespace blockgtq {
namespace {

/// Four digits: a colour needs no more, and a page holds many.
double rounded(double value) {
  return std::strtod(fmt::format("{:.3e}", value).c_str(), nullptr);
}

}  // namespace

Json map_view(const BitMap& map) {
  const AttentionShape& shape = map.shape;
  Json energy = Json::array(), budgets = Json::array();
  for (int l = 0; l < shape.n_layers; ++l) {
    Json heads = Json::array();
    for (int h = 0; h < shape.n_kv_heads; ++h) {
      Json blocks = Json::array();
      for (const double e : map.head_energy(l, h)) blocks.push_back(rounded(e));
      heads.push_back(std::move(blocks));
    }
    energy.push_back(std::move(heads));
  }
  for (const Budget& budget : map.budgets) {
    Json layers = Json::array();
    for (int l = 0; l < shape.n_layers; ++l) {
      Json heads = Json::array();
      for (int h = 0; h < shape.n_kv_heads; ++h) {
        std::string digits;
        for (const uint8_t bits : map.head_bits(budget, l, h)) digits += char('0' + bits);
        heads.push_back(digits);
      }
      layers.push_back(std::move(heads));
    }
    budgets.push_back({{"bits", budget.average_bits}, {"layers", std::move(layers)}});
  }
  return {{"rotary_blocks", shape.layout.n_rotary()}, {"energy", energy}, {"budgets", budgets}};
}

Json bit_shares(const BitMap& map) {
  Json all = Json::array();
  for (const Budget& budget : map.budgets) {
    Json layers = Json::array();
    for (int l = 0; l < map.shape.n_layers; ++l) {
      std::vector<double> share(8);
      const int n_blocks = map.shape.n_kv_heads * map.n_blocks();
      for (int h = 0; h < map.shape.n_kv_heads; ++h)
        for (const uint8_t b : map.head_bits(budget, l, h)) share[b - 1] += 1.0 / n_blocks;
      layers.push_back(share);
    }
    all.push_back({{"bits", budget.average_bits}, {"layers", layers}});
  }
  return all;
}

std::string share_charts(const Json& shares) {
  std::string out;
  for (const Json& share : shares)
    out += page_chart(
        share_chart(fmt::format("Bit widths of blocks, average {}", exact(share.at("bits").get<double>())),
                    share.at("layers").get<std::vector<std::vector<double>>>()));
  return out;
}

}  // namespace blockgtq
