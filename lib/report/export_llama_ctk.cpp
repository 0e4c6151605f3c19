// llama-ctk: the cache options of llama.cpp's command line, for keys. One type for all layers (-ctk), and
// others for the first and for the last layers (-ctk-first TYPE,N and -ctk-last TYPE,N). The reader:
//   ggml-org/llama.cpp     common/arg.cpp: -ctk alone
//   ikawrakow/ik_llama.cpp common/common.cpp and src/llama.cpp (llama_kv_cache_init), 8337e4cd: all three; a
//                          layer in both ranges takes the type of -ctk-last
// Types belong to whole layers: heads and blocks of a layer are not told apart.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/error.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"

namespace blockgtq {
namespace {

const std::vector<NamedWidth>& types() {
  static const std::vector<NamedWidth> all = {{"q4_0", 4}, {"iq4_nl", 4}, {"q4_1", 4}, {"q5_0", 5},
                                              {"q5_1", 5}, {"q6_0", 6},   {"q8_0", 8}, {"f16", kUnquantized}};
  return all;
}

/// llama.cpp counts all layers of the model, so the map must have all.
void require_all_layers(const BitMap& map) {
  for (int l = 0; l < map.shape.n_layers; ++l)
    if (layer_number(map, l) != l)
      fail_input("map: layer {} of the model is not in it: llama.cpp's first and last layers count all",
                 std::min(l, layer_number(map, l)));
}

/// The numbers of first and last layers, n in all, that take the most energy away from the rest.
std::pair<int, int> best_ends(const std::vector<double>& energy, int n) {
  const int all = int(energy.size());
  n = std::min(n, all);
  std::pair<int, int> best{0, 0};
  double most = -1;
  for (int first = 0; first <= n; ++first) {
    double sum = 0;
    for (int l = 0; l < all; ++l)
      if (l < first || l >= all - (n - first)) sum += energy[l];
    if (sum > most) most = sum, best = {first, n - first};
  }
  return best;
}

struct Ends {
  std::string base, first_type, last_type;
  int first = 0, last = 0;
};

std::vector<uint8_t> bits_of(const BitMap& map, const Ends& ends) {
  const int n = map.shape.n_layers;
  std::vector<uint8_t> widths(size_t(n), uint8_t(width_of(types(), ends.base)));
  for (int l = 0; l < n; ++l) {
    if (l < ends.first) widths[l] = uint8_t(width_of(types(), ends.first_type));
    if (l >= n - ends.last) widths[l] = uint8_t(width_of(types(), ends.last_type));
  }
  return bits_of_layers(map, widths);
}

}  // namespace

EngineExport write_llama_ctk(const BitMap& map, const Budget& budget, const EngineOptions& options) {
  require_all_layers(map);
  const double average = budget.average_bits;
  const char* base = average <= 4 ? "q4_0" : average <= 5 ? "q5_0" : average <= 6 ? "q6_0" : "q8_0";
  Ends ends;
  const auto [whole, guarded] = two_types(options.type, types(), base, "q8_0");
  ends.base = whole;
  ends.first_type = ends.last_type = guarded;
  if (whole != guarded) std::tie(ends.first, ends.last) = best_ends(layer_energies(map), options.layers);
  std::string line = "-ctk " + whole;
  if (ends.first > 0) line += fmt::format(" -ctk-first {},{}", guarded, ends.first);
  if (ends.last > 0) line += fmt::format(" -ctk-last {},{}", guarded, ends.last);
  return {line + "\n", bits_of(map, ends)};
}

std::vector<uint8_t> read_llama_ctk(const std::string& bytes, const BitMap& map, const Budget&,
                                    const std::string& file) {
  require_all_layers(map);
  Ends ends{"f16", "f16", "f16"};  // the engine's defaults
  const auto known = [&](const std::string& type) {
    if (width_of(types(), type) == 0)
      fail_input("{}: cache type: {} found, a type of llama.cpp wanted", file, type);
    return type;
  };
  std::istringstream words(bytes);
  for (std::string option, value; words >> option;) {
    if (!(words >> value)) fail_input("{}: {}: no value", file, option);
    if (option == "-ctk") {
      ends.base = known(value);
      continue;
    }
    if (option != "-ctk-first" && option != "-ctk-last")
      fail_input("{}: {} found, -ctk, -ctk-first or -ctk-last wanted", file, option);
    const size_t comma = std::min(value.find(','), value.size());
    int n = 0;
    const auto [end, error] =
        std::from_chars(value.data() + std::min(comma + 1, value.size()), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n < 0 || n > map.shape.n_layers)
      fail_input("{}: {}: {} found, TYPE,N with N up to {} wanted", file, option, value, map.shape.n_layers);
    (option == "-ctk-first" ? ends.first_type : ends.last_type) = known(value.substr(0, comma));
    (option == "-ctk-first" ? ends.first : ends.last) = n;
  }
  return bits_of(map, ends);
}

}  // namespace blockgtq
