#include "report/map_read.h"

#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "report/npy.h"

namespace blockgtq {
namespace {

std::vector<size_t> cells(const BitMap& map) {
  return {size_t(map.shape.n_layers), size_t(map.shape.n_kv_heads), size_t(map.n_blocks())};
}

size_t n_cells(const BitMap& map) {
  return cells(map)[0] * cells(map)[1] * cells(map)[2];
}

/// Bits of every cell, each between the map's bounds.
std::vector<uint8_t> checked(std::vector<uint8_t> bits, const BitMap& map, const std::string& file) {
  if (bits.size() != n_cells(map))
    fail_input("{}: {} blocks found, {} wanted", file, bits.size(), n_cells(map));
  for (const uint8_t b : bits)
    if (b < map.min_bits || b > map.max_bits)
      fail_input("{}: {} bits found, {} to {} wanted", file, b, map.min_bits, map.max_bits);
  return bits;
}

std::vector<uint8_t> bytes_to_bits(const std::string& data) {
  return {data.begin(), data.end()};
}

}  // namespace

std::vector<uint8_t> read_map_json(const std::string& bytes, const BitMap& map, const std::string& file) {
  const Json json = parse_json(bytes, file);
  std::vector<uint8_t> bits;
  try {
    if (json.at("schema") != "blockgtq.bitmap/1")
      fail_input("{}: schema: {} found, blockgtq.bitmap/1 wanted", file, json.at("schema").dump());
    for (const Json& layer : json.at("layers"))
      for (const Json& head : layer.at("kv_heads"))
        for (const int b : head.at("bits").get<std::vector<int>>()) bits.push_back(uint8_t(b));
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: not a bit map: {}", file, e.what());
  }
  return checked(bits, map, file);
}

std::vector<uint8_t> read_map_csv(const std::string& bytes, const BitMap& map, const std::string& file) {
  std::istringstream lines(bytes);
  std::string line;
  std::getline(lines, line);
  if (line != "layer,kv_head,block,inv_freq,coord0,coord1,bits,energy\r")
    fail_input("{}: another header", file);
  std::vector<uint8_t> bits(n_cells(map), 0);
  size_t row = 0;
  for (; std::getline(lines, line); ++row) {
    std::vector<std::string> fields;
    std::istringstream parts(line);
    for (std::string field; std::getline(parts, field, ',');) fields.push_back(field);
    int values[4] = {-1, -1, -1, -1};  // layer, head, block, bits
    for (int i = 0; i < 4 && fields.size() == 8; ++i) {
      const std::string& field = fields[i < 3 ? i : 6];
      std::from_chars(field.data(), field.data() + field.size(), values[i]);
    }
    const int64_t at = (int64_t(values[0]) * map.shape.n_kv_heads + values[1]) * map.n_blocks() + values[2];
    if (at != int64_t(row) || row >= bits.size())
      fail_input("{}: row {} is not of the block that follows", file, row);
    bits[row] = uint8_t(values[3]);
  }
  if (row != bits.size()) fail_input("{}: {} rows found, {} wanted", file, row, bits.size());
  return checked(bits, map, file);
}

std::vector<uint8_t> read_map_npy(const std::string& bytes, const BitMap& map, const std::string& file) {
  return checked(bytes_to_bits(npy_data(bytes, "|u1", cells(map), file)), map, file);
}

std::vector<uint8_t> read_map_safetensors(const std::string& bytes, const BitMap& map,
                                          const std::string& file) {
  uint64_t size = 0;
  if (bytes.size() < sizeof size) fail_input("{}: no header", file);
  std::memcpy(&size, bytes.data(), sizeof size);
  if (size > bytes.size() - sizeof size) fail_input("{}: header of {} bytes", file, size);
  const Json header = parse_json(std::string_view(bytes).substr(sizeof size, size), file);
  const size_t data = sizeof size + size;
  try {
    const Json& bits = header.at("bits");
    const auto [from, to] = bits.at("data_offsets").get<std::pair<size_t, size_t>>();
    if (header.at("__metadata__").at("schema") != "blockgtq.bitmap/1" || bits.at("dtype") != "U8" ||
        bits.at("shape") != Json(cells(map)) || from > to || to > bytes.size() - data)
      fail_input("{}: bits: not those of a map of this shape", file);
    return checked(bytes_to_bits(bytes.substr(data + from, to - from)), map, file);
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: not a bit map: {}", file, e.what());
  }
}

}  // namespace blockgtq
