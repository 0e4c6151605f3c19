// ranges: VBR_LAYER_SCHEDULE, a width of the key cache for every range of layers. The reader:
// spiritbuun/buun-llama-cpp (a fork of llama.cpp) 184e1199, src/llama-kv-cache.cpp
// (turbo_vbr_layer_policy_from_env):
//   band=ROW0-ROW1:TIER:k:lFIRST-LAST;...   tiers t1, t2, t3, t4, t8
// Rows must cover the whole window (VBR_SCHEDULE_CTX, 8192 unless set). Values stay as -ctv says.
// Of all schedules that spend no more than the map, this one has the least predicted error.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "base/error.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"

namespace blockgtq {
namespace {

constexpr int kWindow = 8192;
constexpr int kTiers[] = {1, 2, 3, 4, 8};

/// (L) tiers, of `average` bits at most: every step up goes to the layer where a bit takes most error away.
std::vector<uint8_t> allocate_layers(const std::vector<double>& energy, double average) {
  std::vector<size_t> tier(energy.size(), 0);
  double left = average * double(energy.size()) - double(energy.size()) + 1e-9;
  for (;;) {
    size_t best = energy.size();
    double most = -1;
    for (size_t l = 0; l < energy.size(); ++l) {
      if (tier[l] + 1 == std::size(kTiers)) continue;
      const int now = kTiers[tier[l]], next = kTiers[tier[l] + 1];
      if (next - now > left) continue;
      const double gain = energy[l] * (std::exp2(-2 * now) - std::exp2(-2 * next)) / (next - now);
      if (gain > most) most = gain, best = l;
    }
    if (best == energy.size()) break;
    left -= kTiers[tier[best] + 1] - kTiers[tier[best]];
    ++tier[best];
  }
  std::vector<uint8_t> widths;
  for (const size_t t : tier) widths.push_back(uint8_t(kTiers[t]));
  return widths;
}

/// "FROM-TO", both whole and FROM not above TO.
bool parse_range(const std::string& text, int& from, int& to) {
  const size_t dash = text.find('-');
  if (dash == std::string::npos) return false;
  const char *begin = text.data(), *middle = begin + dash, *end = begin + text.size();
  const auto first = std::from_chars(begin, middle, from), second = std::from_chars(middle + 1, end, to);
  return first.ptr == middle && first.ec == std::errc() && second.ptr == end && second.ec == std::errc() &&
         from <= to;
}

std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> all;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    const size_t from = part.find_first_not_of(" \t\r\n"), to = part.find_last_not_of(" \t\r\n");
    all.push_back(from == std::string::npos ? "" : part.substr(from, to - from + 1));
  }
  return all;
}

}  // namespace

EngineExport write_ranges(const BitMap& map, const Budget& budget, const EngineOptions&) {
  const std::vector<uint8_t> widths = allocate_layers(layer_energies(map), budget.average_bits);
  const std::vector<int> numbers = layer_numbers(map);
  std::string line;
  for (size_t from = 0; from < widths.size();) {
    size_t to = from;
    while (to + 1 < widths.size() && widths[to + 1] == widths[from] && numbers[to + 1] == numbers[to] + 1)
      ++to;
    line += fmt::format("{}band=0-{}:t{}:k:l{}-{}", from ? ";" : "", kWindow, widths[from], numbers[from],
                        numbers[to]);
    from = to + 1;
  }
  return {line + "\n", bits_of_layers(map, widths)};
}

std::vector<uint8_t> read_ranges(const std::string& bytes, const BitMap& map, const Budget&,
                                 const std::string& file) {
  const std::vector<int> numbers = layer_numbers(map);
  std::vector<uint8_t> widths(numbers.size(), kUnquantized);
  for (const std::string& band : parts(bytes, ';')) {
    if (band.empty()) continue;
    const std::vector<std::string> fields =
        band.starts_with("band=") ? parts(band.substr(5), ':') : parts("", ':');
    int row0 = 0, row1 = 0, first = 0, last = 0;
    const bool whole = fields.size() == 4 && parse_range(fields[0], row0, row1) && row0 == 0 &&
                       row1 >= kWindow && fields[2] == "k" && fields[3].starts_with("l") &&
                       parse_range(fields[3].substr(1), first, last);
    const auto tier = std::find_if(std::begin(kTiers), std::end(kTiers), [&](int t) {
      return fields.size() > 1 && fields[1] == fmt::format("t{}", t);
    });
    if (!whole || tier == std::end(kTiers))
      fail_input("{}: {} found, band=0-{}:TIER:k:lFIRST-LAST wanted", file, band, kWindow);
    for (size_t l = 0; l < numbers.size(); ++l)
      if (numbers[l] >= first && numbers[l] <= last) widths[l] = uint8_t(*tier);
  }
  return bits_of_layers(map, widths);
}

}  // namespace blockgtq
