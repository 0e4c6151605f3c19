// Files for engines: what they hold, that they read back under the engine's rules, and what those rules
// refuse.
#include "report/engine_export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "catch.h"
#include "report/engine_layers.h"
#include "report/torch_file.h"
#include "report/zip.h"
#include "samples.h"

using namespace blockgtq;

namespace {

/// A map of half pairing over the whole head, of values as wide as keys. Layer 1 has the most energy, then 4;
/// in every head the energy falls from block to block.
BitMap engine_map(int n_layers = 6, int head_dim = 32) {
  BitMap map = sample_map(n_layers, 2, head_dim, head_dim);
  map.shape.layout.pairing = Pairing::half;
  map.shape.v_dim = head_dim;
  map.budgets[0].average_bits = 3;
  for (int l = 0; l < n_layers; ++l)
    for (int h = 0; h < 2; ++h)
      for (int b = 0; b < map.n_blocks(); ++b) {
        const size_t at = (size_t(l) * 2 + h) * map.n_blocks() + b;
        map.energy[at] = (l == 1 ? 100 : l == 4 ? 50 : 1 + l) * std::exp2(-b);
        map.budgets[0].bits[at] = uint8_t(b < map.n_blocks() / 2 ? 4 : 2);
      }
  return map;
}

EngineExport write(const std::string& format, const BitMap& map, EngineOptions options = {}) {
  return find_engine_format(format)->write(map, map.budgets[0], options);
}

std::vector<uint8_t> read(const std::string& format, const std::string& bytes, const BitMap& map) {
  return find_engine_format(format)->read(bytes, map, map.budgets[0], "file");
}

/// The message of the error that reading ends with.
std::string refusal(const std::string& format, const std::string& bytes, const BitMap& map) {
  try {
    read(format, bytes, map);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    return e.what();
  }
  return "nothing";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("engines: every format reads back what was written") {
  const BitMap map = engine_map();
  for (const EngineFormat& format : engine_formats()) {
    INFO(format.name);
    if (format.name == std::string("oscar")) continue;  // wants a calibration: below
    const EngineExport out = format.write(map, map.budgets[0], {});
    CHECK(out.bits.size() == map.energy.size());
    CHECK(format.read(out.bytes, map, map.budgets[0], "file") == out.bits);
    CHECK(format.write(map, map.budgets[0], {}).bytes == out.bytes);
  }
  CHECK(find_engine_format("none") == nullptr);
}

TEST_CASE("engines: llama-ctk guards the ends that hold the most energy") {
  const BitMap map = engine_map();
  CHECK(write("llama-ctk", map).bytes == "-ctk q4_0 -ctk-first q8_0,2 -ctk-last q8_0,2\n");
  EngineOptions options;
  options.layers = 2;
  const EngineExport two = write("llama-ctk", map, options);
  CHECK(two.bytes == "-ctk q4_0 -ctk-first q8_0,2\n");  // 101 + 1 against 1 + 6 and 50 + 6
  CHECK(layer_widths(map, two.bits) == std::vector<uint8_t>{8, 8, 4, 4, 4, 4});
  options.type = "iq4_nl,f16";
  options.layers = 0;
  CHECK(write("llama-ctk", map, options).bytes == "-ctk iq4_nl\n");
  // a layer in both ranges has the type of the last
  CHECK(layer_widths(map, read("llama-ctk", "-ctk q4_0 -ctk-first q8_0,4 -ctk-last f16,3", map)) ==
        std::vector<uint8_t>{8, 8, 8, 16, 16, 16});
  CHECK_THAT(refusal("llama-ctk", "-ctk q3_0", map), ContainsSubstring("q3_0"));
  CHECK_THAT(refusal("llama-ctk", "-ctk q4_0 -ctk-first q8_0", map), ContainsSubstring("TYPE,N"));
  CHECK_THAT(refusal("llama-ctk", "-ctk q4_0 -ctk-last q8_0,7", map), ContainsSubstring("up to 6"));
  CHECK_THAT(refusal("llama-ctk", "-ctv q4_0", map), ContainsSubstring("-ctv"));
  options.type = "q4_0,q9";
  CHECK_THROWS_AS(write("llama-ctk", map, options), Error);
  BitMap hybrid = map;  // the map's layers are not all of the model's
  for (int l = 0; l < 6; ++l)
    hybrid.shape.modules[l] = "model.layers." + std::to_string(4 * l + 3) + ".self_attn";
  CHECK_THROWS_WITH(write("llama-ctk", hybrid), ContainsSubstring("layer 0 of the model is not in it"));
}

TEST_CASE("engines: vLLM skips the layers of the list, and the boundary of its TurboQuant types") {
  const BitMap map = engine_map(8);
  EngineOptions options;
  options.layers = 2;
  const EngineExport out = write("vllm-skip-layers", map, options);
  const Json json = Json::parse(out.bytes);
  CHECK(json.at("kv-cache-dtype") == "turboquant_3bit_nc");
  CHECK(json.at("kv-cache-dtype-skip-layers") == Json({"1", "4"}));
  CHECK(layer_widths(map, out.bits) == std::vector<uint8_t>{16, 16, 3, 3, 16, 3, 16, 16});
  options.type = "nvfp4";
  CHECK(layer_widths(map, write("vllm-skip-layers", map, options).bits) ==
        std::vector<uint8_t>{4, 16, 4, 4, 16, 4, 4, 4});
  options.layers = 0;
  CHECK(Json::parse(write("vllm-skip-layers", map, options).bytes) == Json({{"kv-cache-dtype", "nvfp4"}}));
  options.type = "nvfp4,fp8";
  CHECK_THROWS_WITH(write("vllm-skip-layers", map, options), ContainsSubstring("one type"));
  CHECK_THAT(refusal("vllm-skip-layers", replaced(out.bytes, "\"4\"", "\"8\""), map),
             ContainsSubstring("\"8\""));
  CHECK_THAT(refusal("vllm-skip-layers", replaced(out.bytes, "\"4\"", "4"), map),
             ContainsSubstring("no layer"));
  CHECK_THAT(refusal("vllm-skip-layers", R"({"kv-cache-dtype": "int4"})", map),
             ContainsSubstring("kv-cache-dtype"));
  BitMap hybrid = map;  // vLLM names layers by the model's numbers, and protects no boundary there
  for (int l = 0; l < 8; ++l)
    hybrid.shape.modules[l] = "model.layers." + std::to_string(4 * l + 3) + ".self_attn";
  options = {"", 1, ""};
  const EngineExport sparse = write("vllm-skip-layers", hybrid, options);
  CHECK(Json::parse(sparse.bytes).at("kv-cache-dtype-skip-layers") == Json({"7"}));
  CHECK(layer_widths(map, sparse.bits) == std::vector<uint8_t>{3, 16, 3, 3, 3, 3, 3, 3});
}

TEST_CASE("engines: modelopt has a format per attention module") {
  BitMap map = engine_map();
  EngineOptions options{"", 2, "9.9"};
  const EngineExport out = write("modelopt", map, options);
  const Json json = Json::parse(out.bytes);
  CHECK(json.at("producer") == Json({{"name", "blockgtq"}, {"version", "9.9"}}));
  const Json& quantization = json.at("quantization");
  CHECK(quantization.at("quant_algo").is_null());
  CHECK(quantization.at("kv_cache_quant_algo") == "MIXED_PRECISION");
  CHECK(quantization.at("kv_cache_schema_version") == 1);
  CHECK(quantization.at("kv_cache_quantized_layers").at("model.layers.1.self_attn").at("quant_algo") ==
        "FP8_K_NVFP4_V");
  CHECK(layer_widths(map, out.bits) == std::vector<uint8_t>{4, 8, 4, 4, 8, 4});
  options.layers = 0;
  CHECK(Json::parse(write("modelopt", map, options).bytes).at("quantization").at("kv_cache_quant_algo") ==
        "NVFP4");
  CHECK_THAT(refusal("modelopt", replaced(out.bytes, "MIXED_PRECISION", "FP8"), map),
             ContainsSubstring("does not fit"));
  CHECK_THAT(refusal("modelopt", replaced(out.bytes, "schema_version\": 1", "schema_version\": 2"), map),
             ContainsSubstring("2 found"));
  CHECK_THAT(refusal("modelopt", replaced(out.bytes, "layers.1.", "layers.9."), map),
             ContainsSubstring("no module"));
  CHECK_THAT(refusal("modelopt", "{}", map), ContainsSubstring("quantization"));
  // a layer that is not named stays in 16 bits
  Json fewer = json;
  fewer["quantization"]["kv_cache_quantized_layers"].erase("model.layers.0.self_attn");
  CHECK(layer_widths(map, read("modelopt", fewer.dump(), map)) == std::vector<uint8_t>{16, 8, 4, 4, 8, 4});
  map.shape.v_dim = 16;  // other widths of keys and values: no asymmetric format
  CHECK(Json::parse(write("modelopt", map).bytes)
            .at("quantization")
            .at("kv_cache_quantized_layers")
            .at("model.layers.1.self_attn")
            .at("quant_algo") == "FP8");
  options.type = "FP8_K_NVFP4_V";
  CHECK_THROWS_WITH(write("modelopt", map, options), ContainsSubstring("values 16"));
}

TEST_CASE("engines: turboquant_kv.json has whole blocks, by the head's coordinates") {
  BitMap map = engine_map(2, 64);
  const EngineExport out = write("turboquant-kv", map);
  const Json json = Json::parse(out.bytes);
  CHECK(json.at("recipe") == "turboquant35");
  CHECK(json.at("head_size") == 64);
  const Json& layer = json.at("layers").at("model.layers.1.self_attn");
  REQUIRE(layer.at("key_high_precision_indices").size() == 2);
  std::vector<int> wanted;  // the 16 first of 32 blocks: (i, i + 32)
  for (int i = 0; i < 16; ++i) wanted.push_back(i);
  for (int i = 0; i < 16; ++i) wanted.push_back(32 + i);
  CHECK(layer.at("key_high_precision_indices")[1] == Json(wanted));
  CHECK(out.bits[0] == 4);
  CHECK(out.bits[16] == 3);
  // values without a calibration: the first channels, as the fork itself has them
  CHECK(layer.at("value_high_precision_indices")[0][31] == 31);

  map.shape.layout.pairing = Pairing::interleaved;  // GLM-4: (2i, 2i + 1)
  CHECK(Json::parse(write("turboquant-kv", map).bytes)
            .at("layers")
            .at("model.layers.0.self_attn")
            .at("key_high_precision_indices")[0][31] == 31);
  map.shape.layout.pairing = Pairing::half;

  EngineOptions options;
  options.type = "turboquant25";
  const EngineExport quarter = write("turboquant-kv", map, options);
  CHECK(std::count(quarter.bits.begin(), quarter.bits.end(), 3) == 2 * 2 * 8);
  options.type = "turboquant45";
  CHECK_THROWS_WITH(write("turboquant-kv", map, options), ContainsSubstring("turboquant45"));
  CHECK_THAT(refusal("turboquant-kv", replaced(out.bytes, "\"version\": 1", "\"version\": 2"), map),
             ContainsSubstring("version"));
  CHECK_THAT(refusal("turboquant-kv", replaced(out.bytes, "turboquant35", "turboquant25"), map),
             ContainsSubstring("32 channels found, 16 wanted"));
  Json unsorted = json;
  std::swap(unsorted["layers"]["model.layers.0.self_attn"]["key_high_precision_indices"][0][0],
            unsorted["layers"]["model.layers.0.self_attn"]["key_high_precision_indices"][0][1]);
  CHECK_THAT(refusal("turboquant-kv", unsorted.dump(), map), ContainsSubstring("ascending"));
  unsorted = json;
  unsorted["layers"].erase("model.layers.1.self_attn");
  CHECK_THAT(refusal("turboquant-kv", unsorted.dump(), map), ContainsSubstring("model.layers.1"));
  map = engine_map(2, 24);
  CHECK_THROWS_WITH(write("turboquant-kv", map), ContainsSubstring("head dimension 24"));
}

TEST_CASE("engines: turboquant_kv.json takes the values with the largest mean squares") {
  BitMap map = engine_map(1, 32);
  map.calibration.resize(2);
  for (HeadCalibration& head : map.calibration) {
    head.v_mean.assign(32, 0);
    head.v_spectrum.assign(32, 1);
    head.v_backward.assign(32 * 32, 0);
    for (int j = 0; j < 32; ++j) head.v_backward[j * 32 + j] = float(j % 2 ? 2 : 1);  // odd ones are larger
    head.v_mean[0] = 10;
  }
  const Json values = Json::parse(write("turboquant-kv", map).bytes)
                          .at("layers")
                          .at("model.layers.0.self_attn")
                          .at("value_high_precision_indices")[0];
  CHECK(values == Json({0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29}));
}

TEST_CASE("engines: ranges and the degrade order of a fork of llama.cpp") {
  const BitMap map = engine_map();
  const EngineExport ranges = write("ranges", map);
  // 18 bits for six layers, of energy 1 100 3 4 50 6
  CHECK(layer_widths(map, ranges.bits) == std::vector<uint8_t>{2, 4, 2, 3, 4, 3});
  CHECK(ranges.bytes ==
        "band=0-8192:t2:k:l0-0;band=0-8192:t4:k:l1-1;band=0-8192:t2:k:l2-2;band=0-8192:t3:k:l3-3;"
        "band=0-8192:t4:k:l4-4;band=0-8192:t3:k:l5-5\n");
  CHECK_THAT(refusal("ranges", "band=0-4096:t2:k:l0-5", map), ContainsSubstring("band=0-4096"));
  CHECK_THAT(refusal("ranges", "band=0-8192:t5:k:l0-5", map), ContainsSubstring("t5"));
  CHECK_THAT(refusal("ranges", "0-5:t4", map), ContainsSubstring("wanted"));
  CHECK(layer_widths(map, read("ranges", "band=0-8192:t4:k:l1-2", map)) ==
        std::vector<uint8_t>{16, 4, 4, 16, 16, 16});

  const EngineExport order = write("vbr-degrade-order", map);
  CHECK(order.bytes.starts_with("0k:t8 2k:t8 3k:t8 5k:t8 4k:t8 1k:t8 0k:t4 2k:t4 3k:t4 5k:t4 "));
  CHECK(std::count(order.bytes.begin(), order.bytes.end(), 'k') == 6 * 5);
  double sum = 0;
  for (const uint8_t width : layer_widths(map, order.bits)) sum += width;
  CHECK(sum <= 18);
  CHECK(layer_widths(map, order.bits)[1] >= layer_widths(map, order.bits)[0]);
  CHECK_THAT(refusal("vbr-degrade-order", "0k:t8 0k:t8", map), ContainsSubstring("takes nothing"));
  CHECK_THAT(refusal("vbr-degrade-order", "6k:t8", map), ContainsSubstring("6k:t8"));
  CHECK_THAT(refusal("vbr-degrade-order", "0v:t8", map), ContainsSubstring("0v:t8"));
  CHECK_THAT(refusal("vbr-degrade-order", "k:t8", map), ContainsSubstring("k:t8"));
}

TEST_CASE(
    "engines: OSCAR's rotations, of keys by the energies of queries, of values by their second moment") {
  BitMap map = engine_map(2, 16);
  CHECK_THROWS_WITH(write("oscar", map), ContainsSubstring("no basis of values"));
  map.calibration.resize(4);
  for (HeadCalibration& head : map.calibration) {
    for (int b = 0; b < 8; ++b) head.q_energy.push_back(8 - b);
    head.v_mean.assign(16, 0.5);
    for (int i = 0; i < 16; ++i) head.v_spectrum.push_back(16 - i);
    head.v_backward.assign(16 * 16, 0);
    for (int i = 0; i < 16; ++i) head.v_backward[i * 16 + i] = 1;
  }
  const EngineExport keys = write("oscar", map);
  CHECK(read("oscar", keys.bytes, map) == keys.bits);
  CHECK(keys.bits == std::vector<uint8_t>(map.energy.size(), 2));
  const std::vector<LayerRotation> layers = read_torch_rotations(keys.bytes, {0, 1}, 16, "file");
  // ascending: the last block (7, 15) has the least energy, so that row 7 of R H P is the first of H,
  // permuted
  CHECK(layers[0].eigenvalues.front() == 0.5);
  CHECK(layers[0].eigenvalues.back() == 4);
  for (int j = 0; j < 16; ++j) CHECK(layers[0].rotation[7 * 16 + j] == 0.25f);
  EngineOptions options;
  options.type = "values";
  const EngineExport values = write("oscar", map, options);
  CHECK(read("oscar", values.bytes, map) == values.bits);
  CHECK(values.bytes != keys.bytes);
  options.type = "queries";
  CHECK_THROWS_WITH(write("oscar", map, options), ContainsSubstring("queries"));
  std::string other = torch_rotations({{0, std::vector<float>(256, 0.1f), std::vector<float>(16, 1)},
                                       {1, std::vector<float>(256, 0.1f), std::vector<float>(16, 1)}},
                                      "qqt");
  CHECK_THAT(refusal("oscar", other, map), ContainsSubstring("not a rotation"));
  CHECK_THAT(refusal("oscar", torch_rotations({layers[0]}, "qqt"), map), ContainsSubstring("of 2 layers"));
  map.shape.v_dim = 8;
  CHECK_THROWS_WITH(write("oscar", map), ContainsSubstring("16 and 8"));
}

TEST_CASE("engines: arrays for the published code") {
  BitMap map = engine_map();
  const EngineExport out = write("reference-npz", map);
  CHECK(out.bits == map.budgets[0].bits);
  const auto entries = unzip(out.bytes, "file");
  REQUIRE(entries.size() == 7);
  CHECK(entries[0].first == "bit_allocation.npy");
  CHECK_THAT(entries[0].second, ContainsSubstring("'<i8'"));
  CHECK_THAT(entries[0].second, ContainsSubstring("(6, 2, 16)"));
  CHECK_THAT(entries[6].second, ContainsSubstring("'shape': ()"));
  std::string spoiled = out.bytes;
  spoiled[200] ^= 1;
  CHECK_THAT(refusal("reference-npz", spoiled, map), ContainsSubstring("checksum"));
  CHECK_THAT(refusal("reference-npz", out.bytes.substr(0, 20), map), ContainsSubstring("ZIP"));
  map.shape.layout.pairing = Pairing::interleaved;
  CHECK_THROWS_WITH(write("reference-npz", map), ContainsSubstring("interleaved"));
  map = engine_map();
  map.seed = 43;
  CHECK_THROWS_WITH(write("reference-npz", map), ContainsSubstring("seed 43"));
}

TEST_CASE("engines: what a projection loses, and the map of it") {
  const BitMap map = engine_map();
  const ProjectionLoss same = projection_loss(map, map.budgets[0], map.budgets[0].bits);
  CHECK(same.error == 1);
  CHECK(same.unchanged == 1);
  CHECK(same.bits == 3);
  // 4 bits everywhere: the error of the blocks that had 2 is a sixteenth
  const ProjectionLoss four =
      projection_loss(map, map.budgets[0], std::vector<uint8_t>(map.energy.size(), 4));
  double high = 0, low = 0;  // of energy: blocks of 4 bits, of 2
  for (int b = 0; b < 16; ++b) (b < 8 ? high : low) += std::exp2(-b);
  CHECK(four.error == Approx((high + low) / (high + 16 * low)));
  CHECK(four.unchanged == 0.5);
  std::vector<uint8_t> kept(map.energy.size(), kUnquantized);
  CHECK(projection_loss(map, map.budgets[0], kept).error == 0);
  CHECK_THROWS_WITH(projected_map(map, map.budgets[0], kept, "x"), ContainsSubstring("16 bits in layer 0"));
  const EngineExport ranges = write("ranges", map);
  const BitMap projected = projected_map(map, map.budgets[0], ranges.bits, "ranges");
  REQUIRE(projected.budgets.size() == 1);
  CHECK(projected.budgets[0].bits == ranges.bits);
  CHECK(projected.budgets[0].average_bits == 3);
  CHECK(projected.min_bits == 2);
  CHECK(projected.max_bits == 4);
}
