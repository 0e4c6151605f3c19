// vbr-degrade-order: the order in which a cache that must shrink gives up bits, one layer's keys at a time.
// The reader: spiritbuun/buun-llama-cpp (a fork of llama.cpp) 184e1199, src/llama-kv-cache.cpp
// (vbr_load_degrade_order, of the file that VBR_DEGRADE_ORDER names): tokens LAYERk:TIER between white space,
// tiers t8, t4, t3, t2, t1. Layers start in 16 bits. The first steps take all of them to t8, as the fork's
// own orders do; every further one is the step of all layers that adds least predicted error per bit that it
// saves. Values are not in it: they stay as -ctv says.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"

namespace blockgtq {
namespace {

constexpr int kTiers[] = {8, 4, 3, 2, 1};

/// Where the walk stands when it first spends no more than the map: (L) widths.
class Walk {
 public:
  Walk(size_t n_layers, double average)
      : widths_(n_layers, kUnquantized), most_(average * double(n_layers) + 1e-9) {}
  void step(size_t layer, int bits) {
    if (std::accumulate(widths_.begin(), widths_.end(), 0.0) > most_) widths_[layer] = uint8_t(bits);
  }
  const std::vector<uint8_t>& widths() const { return widths_; }

 private:
  std::vector<uint8_t> widths_;
  double most_;
};

struct Step {
  double price;  // predicted error added per bit saved
  int band;      // index of kTiers
  size_t layer;
};

std::vector<Step> steps(const std::vector<double>& energy) {
  std::vector<Step> all;
  for (size_t l = 0; l < energy.size(); ++l)
    for (int band = 0; band < int(std::size(kTiers)); ++band) {
      const int from = band == 0 ? kUnquantized : kTiers[band - 1], to = kTiers[band];
      all.push_back({energy[l] * (std::exp2(-2 * to) - std::exp2(-2 * from)) / (from - to), band, l});
    }
  // Of one layer the price grows from band to band, so that its steps stay in order.
  std::stable_sort(all.begin(), all.end(), [](const Step& a, const Step& b) {
    if ((a.band == 0) != (b.band == 0)) return a.band == 0;
    return a.price != b.price ? a.price < b.price : a.band < b.band;
  });
  return all;
}

}  // namespace

EngineExport write_vbr_degrade_order(const BitMap& map, const Budget& budget, const EngineOptions&) {
  constexpr size_t kPerLine = 12;
  const std::vector<int> numbers = layer_numbers(map);
  Walk walk(numbers.size(), budget.average_bits);
  std::string text;
  size_t n = 0;
  for (const Step& step : steps(layer_energies(map))) {
    const int number = numbers[step.layer];
    if (number > 255) fail_input("map: layer {}: the order holds numbers up to 255", number);
    text += fmt::format("{}k:t{}{}", number, kTiers[step.band], ++n % kPerLine ? " " : "\n");
    walk.step(step.layer, kTiers[step.band]);
  }
  text.back() = '\n';
  return {text, bits_of_layers(map, walk.widths())};
}

std::vector<uint8_t> read_vbr_degrade_order(const std::string& bytes, const BitMap& map, const Budget& budget,
                                            const std::string& file) {
  const std::vector<int> numbers = layer_numbers(map);
  std::vector<int> tier(numbers.size(), kUnquantized);
  Walk walk(numbers.size(), budget.average_bits);
  std::istringstream words(bytes);
  for (std::string word; words >> word;) {
    const size_t colon = std::min(word.find(':'), word.size());
    int number = -1;
    const char* end = word.data() + (colon > 0 ? colon - 1 : 0);
    const bool whole =
        std::from_chars(word.data(), end, number).ptr == end && end != word.data() && *end == 'k';
    const auto layer = std::find(numbers.begin(), numbers.end(), number);
    const auto bits = std::find_if(std::begin(kTiers), std::end(kTiers), [&](int t) {
      return word.substr(std::min(colon, word.size())) == fmt::format(":t{}", t);
    });
    if (!whole || layer == numbers.end() || bits == std::end(kTiers))
      fail_input("{}: {} found, LAYERk:TIER of a layer of the map wanted", file, word);
    const size_t l = size_t(layer - numbers.begin());
    if (*bits >= tier[l]) fail_input("{}: {} takes nothing from {} bits", file, word, tier[l]);
    tier[l] = *bits;
    walk.step(l, *bits);
  }
  return bits_of_layers(map, walk.widths());
}

}  // namespace blockgtq
