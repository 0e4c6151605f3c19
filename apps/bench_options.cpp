#include "bench_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "cache/trellis_page.h"
#include "decimal.h"
#include "options.h"

namespace blockgtq {

int64_t parse_count(const std::string& text, const char* option) {
  constexpr int64_t kMost = int64_t(1) << 22;
  const bool kilo = text.ends_with('k') || text.ends_with('K');
  const int64_t n = parse_whole(std::string_view(text).substr(0, text.size() - kilo)).value_or(0);
  if (n < 1 || n > (kilo ? kMost / 1024 : kMost))
    throw Error(Exit::usage, fmt::format("{}: {}: a count from 1 to 4096k is expected", option, text));
  return kilo ? n * 1024 : n;
}

std::vector<BitPair> whole_pairs(const std::string& text, const char* option) {
  const std::vector<BitPair> pairs = parse_pairs(text, option);
  for (const BitPair& pair : pairs)
    if (pair.k == 0 || pair.v == 0 || pair.k != std::floor(pair.k) || pair.v != std::floor(pair.v))
      throw Error(Exit::usage, fmt::format("{}: {}: whole bits of keys and of values are expected", option,
                                           pair_text(pair)));
  return pairs;
}

std::vector<PageKind> page_kinds(const std::string& text, const char* option) {
  std::vector<PageKind> kinds;
  for (const std::string& name : split(text, ','))
    kinds.push_back({name, name == "fp16" ? BitPair{} : whole_pairs(name, option).at(0)});
  return kinds;
}

void check_trellis_bits(const std::vector<BitPair>& pairs, const char* option) {
  for (const BitPair& pair : pairs)
    if (!has_trellis_page(64, int(pair.k)) || !has_trellis_page(64, int(pair.v)))
      throw Error(Exit::usage,
                  fmt::format("{}: {}: trellis codes have pages of 2 to 4 bits", option, pair_text(pair)));
}

void check_kinds(const std::string& text, const std::vector<std::string>& more) {
  std::vector<std::string> kinds = {"uniform", "mixed", "published", "centred"};
  kinds.insert(kinds.end(), more.begin(), more.end());
  for (const std::string& kind : split(text, ','))
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end())
      throw Error(Exit::usage, fmt::format("--keys: {}: {} or {} is expected", kind,
                                           fmt::join(kinds.begin(), kinds.end() - 1, ", "), kinds.back()));
}

}  // namespace blockgtq
