#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "catch.h"
#include "markup.h"
#include "report/map_export.h"
#include "samples.h"

using namespace blockgtq;

namespace {

template <class T>
T read(const std::string& bytes, size_t at) {
  T value;
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace

TEST_CASE("npy: format 1.0, header a multiple of 64 bytes, then the bits") {
  for (int n_layers : {1, 9, 10, 99, 100, 1000}) {  // the shape's text grows: every length of padding
    const BitMap map = sample_map(n_layers, 1, 16, 16);
    const std::string npy = map_npy(map, map.budgets[0]);
    REQUIRE(npy.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) == 0);
    const size_t data = 10 + read<uint16_t>(npy, 8);
    CHECK(data % 64 == 0);
    CHECK(npy[data - 1] == '\n');
    const std::string header = npy.substr(10, data - 11);
    const std::string dict =
        "{'descr': '|u1', 'fortran_order': False, 'shape': (" + std::to_string(n_layers) + ", 1, 8), }";
    CHECK(header.compare(0, dict.size(), dict) == 0);
    CHECK(header.find_first_not_of(' ', dict.size()) == std::string::npos);
    CHECK(npy.substr(data) == std::string(map.budgets[0].bits.begin(), map.budgets[0].bits.end()));
  }
}

TEST_CASE("safetensors: aligned tensors without holes, and metadata of text") {
  const BitMap map = sample_map(3, 2, 24, 16);
  const std::string bytes = map_safetensors(map, map.budgets[0]);
  const size_t data = 8 + read<uint64_t>(bytes, 0);
  CHECK(data % 8 == 0);
  const Json header = Json::parse(bytes.substr(8, data - 8));
  size_t end = 0;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    names.push_back(name);
    CHECK(tensor.at("data_offsets")[0] == end);
    end = tensor.at("data_offsets")[1];
    const auto dtype = tensor.at("dtype").get<std::string>();
    size_t size = dtype == "F64" ? 8 : dtype == "I32" ? 4 : 1;
    CHECK((data + tensor.at("data_offsets")[0].get<size_t>()) % size == 0);
    for (const Json& n : tensor.at("shape")) size *= n.get<size_t>();
    CHECK(size == end - tensor.at("data_offsets")[0].get<size_t>());
  }
  CHECK(data + end == bytes.size());
  CHECK(names == std::vector<std::string>{"energy", "inv_freq", "coords", "bits"});
  auto start = [&](const char* name) { return data + header.at(name).at("data_offsets")[0].get<size_t>(); };
  CHECK(bytes.substr(start("bits")) == std::string(map.budgets[0].bits.begin(), map.budgets[0].bits.end()));
  CHECK(read<double>(bytes, start("energy") + 8 * 71) == map.energy[71]);
  CHECK(read<double>(bytes, start("inv_freq") + 8 * 7) == map.shape.ropes[0].inv_freq[7]);
  CHECK(read<int32_t>(bytes, start("coords") + 4 * 2) == 2);    // block 1 of an interleaved layout
  CHECK(read<int32_t>(bytes, start("coords") + 4 * 17) == 20);  // the first static block: (16, 20)

  const Json& meta = header.at("__metadata__");
  for (const auto& [key, value] : meta.items()) CHECK(value.is_string());
  CHECK(meta.at("schema") == "blockgtq.bitmap/1");
  CHECK(meta.at("signature") == "0123abcd");
  CHECK(meta.at("pairing") == "interleaved");
  CHECK(meta.at("rotary_dim") == "16");
  CHECK(meta.at("head_dim") == "24");
  CHECK(meta.at("average_bits") == "2.5");
  CHECK(meta.at("method") == "block-gtq");
  CHECK(meta.at("seed") == "42");
  CHECK(Json::parse(meta.at("provenance").get<std::string>()).at("model") == kNasty);
}

TEST_CASE("JSON holds all that applying the map needs") {
  const BitMap map = sample_map(3, 2, 24, 16);
  const Json json = Json::parse(map_json(map, map.budgets[0]));
  CHECK(json.at("schema") == "blockgtq.bitmap/1");
  CHECK(json.at("layout") == Json({{"head_dim", 24}, {"rotary_dim", 16}, {"pairing", "interleaved"}}));
  CHECK(json.at("coords").size() == 12);
  CHECK(json.at("coords")[8] == Json({16, 20}));
  CHECK(json.at("inv_freq").get<std::vector<double>>() == map.shape.ropes[0].inv_freq);
  CHECK(json.at("quantizer").at("seed") == 42);
  CHECK(json.at("provenance").at("model") == kNasty);
  double sum = 0;
  for (int l = 0; l < 3; ++l) {
    const Json& layer = json.at("layers").at(l);
    CHECK(layer.at("module") == map.shape.modules[l]);
    for (int h = 0; h < 2; ++h)
      for (int b = 0; b < 12; ++b) {
        CHECK(layer.at("kv_heads")[h].at("bits")[b] == map.budgets[0].bits[(l * 2 + h) * 12 + b]);
        CHECK(layer.at("kv_heads")[h].at("energy")[b] == map.energy[(l * 2 + h) * 12 + b]);
        sum += map.budgets[0].bits[(l * 2 + h) * 12 + b];
      }
  }
  CHECK(json.at("mean_bits") == Approx(sum / 72));
  CHECK(json.at("average_bits") == 2.5);
  CHECK(map_json(map, map.budgets[0]) == map_json(map, map.budgets[0]));
}

TEST_CASE("CSV: a row per block, static blocks with frequency 0") {
  const BitMap map = sample_map(2, 2, 24, 16);
  const std::string csv = map_csv(map, map.budgets[0]);
  CHECK(csv.compare(0, 60, "layer,kv_head,block,inv_freq,coord0,coord1,bits,energy\r\n0,0,") == 0);
  CHECK(count(csv, "\r\n") == 1 + 2 * 2 * 12);
  CHECK_THAT(csv, ContainsSubstring("\r\n0,0,0,1,0,1,1,1\r\n"));
  CHECK_THAT(csv, ContainsSubstring("\r\n0,0,8,0,16,20,"));
}

TEST_CASE("arrays that do not fit the shape are a defect") {
  BitMap map = sample_map(2, 2, 24, 16);
  Budget budget = map.budgets[0];
  budget.bits.pop_back();
  for (auto* write : {map_json, map_csv, map_npy, map_safetensors, map_png, map_svg})
    CHECK_THROWS_AS(write(map, budget), std::logic_error);
  CHECK_THROWS_AS(map_terminal(map, budget, 80, false), std::logic_error);
}

TEST_CASE("a head without any rotation exports an empty table of frequencies") {
  const BitMap map = sample_map(1, 1, 8, 0);
  const std::string bytes = map_safetensors(map, map.budgets[0]);
  CHECK(Json::parse(bytes.substr(8, read<uint64_t>(bytes, 0))).at("inv_freq").at("shape") ==
        Json::array({0}));
  CHECK(Json::parse(map_json(map, map.budgets[0])).at("inv_freq").empty());
  CHECK(markup_error(map_svg(map, map.budgets[0])) == "");
}
