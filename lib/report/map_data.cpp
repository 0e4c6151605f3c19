#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "report/map_export.h"
#include "report/npy.h"
#include "report/number.h"

namespace blockgtq {
namespace {

static_assert(std::endian::native == std::endian::little,
              "npy and safetensors are written as the machine holds them");

void check_sizes(const BitMap& map, const Budget& budget) {
  const AttentionShape& s = map.shape;
  const size_t cells = size_t(s.n_layers) * s.n_kv_heads * map.n_blocks();
  check(cells > 0 && budget.bits.size() == cells && map.energy.size() == cells &&
            s.ropes[0].inv_freq.size() <= size_t(s.layout.n_rotary()),
        "a bit map's arrays and its shape differ");
}

std::vector<size_t> cells(const BitMap& map) {
  return {size_t(map.shape.n_layers), size_t(map.shape.n_kv_heads), size_t(map.n_blocks())};
}

double mean_bits(const Budget& budget) {
  double sum = 0;
  for (uint8_t b : budget.bits) sum += b;
  return sum / double(budget.bits.size());
}

/// What a decoder needs besides the bits: how the codes were made. The names are those of the map file.
Json quantizer_identity(const BitMap& map) {
  return {{"rotation", "haar-qr-pcg64"}, {"seed", map.seed},
          {"group_seed", "seed + bits"}, {"codebook", "lloyd-max-normal-100"},
          {"norms", "fp16 per group"},   {"pack_order", "groups ascending bits, lsb first"}};
}

Json coords_json(const BlockLayout& layout) {
  Json coords = Json::array();
  for (int b = 0; b < layout.n_blocks(); ++b) coords.push_back(layout.coords(b));
  return coords;
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

Json provenance_json(const Provenance& provenance) {
  Json json = Json::object();
  for (const auto& [key, value] : provenance) json[key] = value;
  return json;
}

/// JSON without line breaks. A path in the provenance need not be UTF-8.
std::string dump_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string map_json(const BitMap& map, const Budget& budget) {
  check_sizes(map, budget);
  const AttentionShape& s = map.shape;
  Json json;
  json["schema"] = "blockgtq.bitmap/1";
  json["signature"] = map.signature;
  json["method"] = map.method;
  json["average_bits"] = budget.average_bits;
  json["mean_bits"] = mean_bits(budget);
  json["min_bits"] = map.min_bits;
  json["max_bits"] = map.max_bits;
  json["shape"] = {
      {"layers", s.n_layers}, {"heads", s.n_heads}, {"kv_heads", s.n_kv_heads}, {"blocks", map.n_blocks()}};
  json["layout"] = {{"head_dim", s.layout.head_dim},
                    {"rotary_dim", s.layout.rotary_dim},
                    {"pairing", name(s.layout.pairing)}};
  json["quantizer"] = quantizer_identity(map);
  json["coords"] = coords_json(s.layout);
  json["inv_freq"] = s.ropes[0].inv_freq;
  if (s.ropes.size() > 1) {  // inv_freq above is that of rope 0
    Json& ropes = json["ropes"] = Json::array();
    for (const Rope& rope : s.ropes) ropes.push_back(rope.inv_freq);
    json["rope_of_layer"] = s.rope_of_layer;
  }
  Json& layers = json["layers"] = Json::array();
  for (int l = 0; l < s.n_layers; ++l) {
    Json heads = Json::array();
    for (int h = 0; h < s.n_kv_heads; ++h) {
      const auto bits = map.head_bits(budget, l, h);
      const auto energy = map.head_energy(l, h);
      heads.push_back({{"bits", std::vector<int>(bits.begin(), bits.end())},
                       {"energy", std::vector<double>(energy.begin(), energy.end())}});
    }
    layers.push_back({{"module", s.modules.at(l)}, {"kv_heads", std::move(heads)}});
  }
  if (!map.choices.empty()) json["choice"] = choices_json(map.choices);
  json["provenance"] = provenance_json(map.provenance);
  return dump_json(json);
}

// A block without RoPE has frequency 0.
std::string map_csv(const BitMap& map, const Budget& budget) {
  check_sizes(map, budget);
  const AttentionShape& s = map.shape;
  std::string out = "layer,kv_head,block,inv_freq,coord0,coord1,bits,energy\r\n";
  for (int l = 0; l < s.n_layers; ++l)
    for (int h = 0; h < s.n_kv_heads; ++h)
      for (int b = 0; b < map.n_blocks(); ++b) {
        const auto [c0, c1] = s.layout.coords(b);
        out += fmt::format("{},{},{},{},{},{},{},{}\r\n", l, h, b,
                           exact(b < int(s.rope(l).inv_freq.size()) ? s.rope(l).inv_freq[b] : 0), c0, c1,
                           map.head_bits(budget, l, h)[b], exact(map.head_energy(l, h)[b]));
      }
  return out;
}

std::string map_npy(const BitMap& map, const Budget& budget) {
  check_sizes(map, budget);
  return npy_array("|u1", cells(map), bytes_of(budget.bits));
}

std::string map_safetensors(const BitMap& map, const Budget& budget) {
  check_sizes(map, budget);
  const AttentionShape& s = map.shape;
  std::vector<int32_t> coords;  // (B, 2)
  for (int b = 0; b < map.n_blocks(); ++b)
    for (int c : s.layout.coords(b)) coords.push_back(c);

  Json header;
  header["__metadata__"] = {{"schema", "blockgtq.bitmap/1"},
                            {"signature", map.signature},
                            {"method", map.method},
                            {"average_bits", exact(budget.average_bits)},
                            {"min_bits", std::to_string(map.min_bits)},
                            {"max_bits", std::to_string(map.max_bits)},
                            {"seed", std::to_string(map.seed)},
                            {"pairing", name(s.layout.pairing)},
                            {"head_dim", std::to_string(s.layout.head_dim)},
                            {"rotary_dim", std::to_string(s.layout.rotary_dim)},
                            {"heads", std::to_string(s.n_heads)},
                            {"modules", dump_line(Json(s.modules))},
                            {"quantizer", dump_line(quantizer_identity(map))},
                            {"provenance", dump_line(provenance_json(map.provenance))}};
  std::string data;
  auto add = [&](const char* tensor, const char* dtype, std::vector<size_t> shape, const std::string& bytes) {
    header[tensor] = {
        {"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  };
  // wide types first, so that every tensor is aligned in a mapped file
  add("energy", "F64", cells(map), bytes_of(map.energy));
  if (s.ropes.size() == 1) {
    add("inv_freq", "F64", {s.ropes[0].inv_freq.size()}, bytes_of(s.ropes[0].inv_freq));
  } else {  // a row per layer
    std::vector<double> rows;
    for (int l = 0; l < s.n_layers; ++l)
      rows.insert(rows.end(), s.rope(l).inv_freq.begin(), s.rope(l).inv_freq.end());
    add("inv_freq", "F64", {size_t(s.n_layers), s.ropes[0].inv_freq.size()}, bytes_of(rows));
  }
  add("coords", "I32", {size_t(map.n_blocks()), 2}, bytes_of(coords));
  add("bits", "U8", cells(map), bytes_of(budget.bits));

  std::string text = dump_line(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  return bytes_of(uint64_t(text.size())) + text + data;
}

}  // namespace blockgtq
