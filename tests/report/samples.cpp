#include "samples.h"

#include <cmath>

#include "report/map_view.h"

using namespace blockgtq;

BitMap sample_map(int n_layers, int n_kv_heads, int head_dim, int rotary_dim) {
  BitMap map;
  map.shape.n_layers = n_layers;
  map.shape.n_heads = 2 * n_kv_heads;
  map.shape.n_kv_heads = n_kv_heads;
  map.shape.layout = {head_dim, rotary_dim, Pairing::interleaved};
  for (int i = 0; i < rotary_dim / 2; ++i)
    map.shape.ropes[0].inv_freq.push_back(std::pow(1e6, -2.0 * i / rotary_dim));
  for (int l = 0; l < n_layers; ++l)
    map.shape.modules.push_back("model.layers." + std::to_string(l) + ".self_attn");
  Budget budget{2.5, {}};
  for (int i = 0; i < n_layers * n_kv_heads * map.n_blocks(); ++i) {
    budget.bits.push_back(uint8_t(1 + (i * 5 + i / 7) % 8));
    map.energy.push_back(1.0 / (1 + i));
  }
  map.budgets.push_back(budget);
  map.signature = "0123abcd";
  map.provenance = {{"model", kNasty}, {"version", "0.1.0"}};
  return map;
}

namespace {

Json result(const char* method, double bits, double mae, double effective_bits) {
  return {{"method", method},
          {"bits", bits},
          {"mae", mae},
          {"mae_per_kv_head", {mae, mae}},
          {"effective_bits", effective_bits},
          {"bytes_per_token", 2 * 128 * effective_bits / 8}};
}

Json summary(const char* method, double bits, double mae, double ratio, int wins, double effective_bits) {
  return {{"method", method},
          {"bits", bits},
          {"mae", mae},
          {"ratio_to_tq_mse", ratio},
          // a quarter of a bit more, at a factor 2 per bit
          {"ratio_at_equal_bytes", wins == 0 ? Json() : Json(ratio * std::exp2(0.25))},
          {"wins", wins},
          {"layers", 5},
          {"effective_bits", effective_bits},
          {"bytes_per_token", 5 * 2 * 128 * effective_bits / 8}};
}

Json sample_model(int number) {
  Json layers = Json::array(), rows = Json::array(), shares = Json::array(), norms = Json::array();
  for (int l = 0; l < 5; ++l) {
    Json results = Json::array();
    for (int bits : {2, 3}) {
      const double mae = (number + 1) * std::exp2(3 - bits) * (l + 1);
      results.push_back(result("tq-mse", bits, mae, bits + 0.125));
      results.push_back(result("block-gtq", bits, mae * (l == 4 ? 1.25 : 0.8), bits + 0.375));
    }
    layers.push_back({{"layer", l}, {"results", results}});
    norms.push_back({{"layer", l},
                     {"query", 3},
                     {"key", 2 * (l + 1)},
                     {"key_mean_share", 0.15 * l},
                     {"value", 0.5},
                     {"key_to_value", 4 * (l + 1)}});
  }
  for (int bits : {2, 3}) {
    const double mean = (number + 1) * std::exp2(3 - bits) * 3;    // of 1 2 3 4 5
    const double ratio = (0.8 * (1 + 2 + 3 + 4) + 1.25 * 5) / 15;  // 0.95
    rows.push_back(summary("tq-mse", bits, mean, 1, 0, bits + 0.125));
    rows.push_back(summary("block-gtq", bits, mean * ratio, ratio, 4, bits + 0.375));
    shares.push_back(
        {{"bits", bits}, {"layers", std::vector<std::vector<double>>(5, {0.25, 0.25, 0.5, 0, 0, 0, 0, 0})}});
  }
  return {{"name", "model-" + std::to_string(number)},
          {"status", "ok"},
          {"architecture",
           {{"model_type", "qwen2"},
            {"layers", 5},
            {"heads", 4},
            {"kv_heads", 2},
            {"head_dim", 128},
            {"rotary_dim", 64},
            {"pairing", "half"},
            {"rope", "default theta 10000"}}},
          {"bit_shares", shares},
          {"map", map_view(sample_map(5, 2, 16, 16))},
          {"norms", norms},
          {"eval",
           {{"schema", "blockgtq.eval-logits/1"},
            {"model", "m"},
            {"window", 1024},
            {"offsets", 50},
            {"tokens", 2048},
            {"chunk", 256},
            {"device", "cpu"},
            {"layers", layers},
            {"summary", rows}}}};
}

}  // namespace

Json sample_panel(int n_models) {
  Json panel = {{"schema", "blockgtq.panel/1"},
                {"version", "0.1.0"},
                {"command", "blockgtq panel data/panel.json -o DIR"},
                {"provenance", {{"corpus", "calibration.txt & evaluation.txt"}, {"device", "cpu"}}}};
  Json models = Json::array();
  for (int i = 0; i < n_models; ++i) models.push_back(sample_model(i));
  models.push_back({{"name", kNasty},
                    {"status", "failed"},
                    {"error", "config.json: model_type: <none>, \"llama\" wanted"}});
  panel["models"] = models;
  return panel;
}
