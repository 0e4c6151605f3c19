#include "report/risks.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "markup.h"

using namespace blockgtq;

TEST_CASE("norms of layers from the statistics") {
  // Two tokens, one KV head of two query heads, D = Dv = 2: keys (3, 4) and (3, -4), values (1, 0) twice,
  // queries (2, 0) of both heads.
  Stats stats;
  stats.shape.n_layers = 1;
  stats.shape.n_heads = 2;
  stats.shape.n_kv_heads = 1;
  stats.shape.v_dim = 2;
  stats.shape.layout = {2, 2, Pairing::half};
  stats.layers.resize(1);
  const std::vector<float> q = {2, 0, 2, 0, 2, 0, 2, 0}, k = {3, 4, 3, -4}, v = {1, 0, 1, 0};
  accumulate(stats, 0, 0, 2, q.data(), k.data(), v.data());
  const Json norms = layer_norms(stats);
  REQUIRE(norms.size() == 1);
  CHECK(norms[0].at("query").get<double>() == Approx(2));
  CHECK(norms[0].at("key").get<double>() == Approx(5));
  CHECK(norms[0].at("value").get<double>() == Approx(1));
  CHECK(norms[0].at("key_to_value").get<double>() == Approx(5));
  CHECK(norms[0].at("key_mean_share").get<double>() == Approx(9.0 / 25));  // the mean is (3, 0)
}

TEST_CASE("risks: a sentence for what stands out, none without numbers") {
  CHECK(risk_section({}, Json::array({{{"layer", 0}}})).empty());
  Json norms = Json::array(), layers = Json::array();
  for (int l = 0; l < 12; ++l) {
    norms.push_back({{"layer", l}, {"query", 1}, {"key", 2}, {"key_mean_share", l == 3 ? 0.8 : 0.1}});
    layers.push_back({{"layer", l}, {"sink_attention", 0.4 + 0.05 * l}});
  }
  std::string text;
  CHECK(markup_error("<div>" + risk_section(norms, layers) + "</div>", &text) == "");
  CHECK_THAT(text, ContainsSubstring("up to 95.0 % of the attention of later queries in 10 of 12 layers"));
  CHECK_THAT(text, ContainsSubstring("Up to 80.0 % of the energy of keys is that of their mean in layer 3"));
  CHECK(text.find("times as long") == std::string::npos);
  CHECK_THAT(risk_section(Json::array({norms[0]}), Json::array()), ContainsSubstring("Nothing stands out"));
}
