#include "report/engine_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace blockgtq {

int layer_number(const BitMap& map, int layer) {
  const std::string& module = map.shape.modules.at(size_t(layer));
  int found = 0;
  std::string number;
  for (size_t from = 0; from <= module.size();) {
    const size_t dot = std::min(module.find('.', from), module.size());
    const std::string part = module.substr(from, dot - from);
    if (!part.empty() && part.size() < 5 && part.find_first_not_of("0123456789") == std::string::npos) {
      ++found;
      number = part;
    }
    from = dot + 1;
  }
  if (found != 1)
    fail_input("map: module '{}': {} layer numbers found, one wanted by engines", module.substr(0, 100),
               found);
  return std::stoi(number);
}

std::vector<int> layer_numbers(const BitMap& map) {
  std::vector<int> numbers;
  for (int l = 0; l < map.shape.n_layers; ++l) numbers.push_back(layer_number(map, l));
  return numbers;
}

std::vector<double> layer_energies(const BitMap& map) {
  const size_t of_layer = size_t(map.shape.n_kv_heads) * map.n_blocks();
  std::vector<double> sums;
  for (int l = 0; l < map.shape.n_layers; ++l)
    sums.push_back(
        std::accumulate(map.energy.begin() + l * of_layer, map.energy.begin() + (l + 1) * of_layer, 0.0));
  return sums;
}

std::vector<int> largest_layers(const BitMap& map, int n) {
  const std::vector<double> energy = layer_energies(map);
  std::vector<int> order(energy.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return energy[a] > energy[b]; });
  order.resize(std::min<size_t>(order.size(), size_t(n)));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<uint8_t> bits_of_layers(const BitMap& map, const std::vector<uint8_t>& widths) {
  std::vector<uint8_t> bits;
  for (const uint8_t width : widths)
    bits.insert(bits.end(), size_t(map.shape.n_kv_heads) * map.n_blocks(), width);
  return bits;
}

std::vector<uint8_t> layer_widths(const BitMap& map, const std::vector<uint8_t>& bits) {
  std::vector<uint8_t> widths;
  for (size_t i = 0; i < bits.size(); i += size_t(map.shape.n_kv_heads) * map.n_blocks())
    widths.push_back(bits[i]);
  return widths;
}

int width_of(const std::vector<NamedWidth>& all, const std::string& name) {
  for (const NamedWidth& each : all)
    if (each.name == name) return each.bits;
  return 0;
}

std::pair<std::string, std::string> two_types(const std::string& text, const std::vector<NamedWidth>& all,
                                              const std::string& base, const std::string& protected_type) {
  const size_t comma = std::min(text.find(','), text.size());
  std::pair<std::string, std::string> types = {text.substr(0, comma),
                                               comma < text.size() ? text.substr(comma + 1) : ""};
  if (types.first.empty()) types.first = base;
  if (types.second.empty()) types.second = protected_type;
  for (const std::string& type : {types.first, types.second})
    if (width_of(all, type) == 0) {
      std::string known;
      for (const NamedWidth& each : all) known += (known.empty() ? "" : ", ") + std::string(each.name);
      throw Error(Exit::usage, fmt::format("--engine-type: '{}' is none of {}", type, known));
    }
  return types;
}

}  // namespace blockgtq
