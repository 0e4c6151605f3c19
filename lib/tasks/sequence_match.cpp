#include "tasks/sequence_match.h"

#include <algorithm>
#include <cstddef>
#include <unordered_map>
#include <vector>

namespace blockgtq {
namespace {

struct Range {
  size_t a, a_end, b, b_end;
};
struct Match {
  size_t a, b, size;
};

class SequenceMatcher {
 public:
  SequenceMatcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b) {
    for (size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
    constexpr size_t kLong = 200;
    if (b.size() >= kLong)
      std::erase_if(places_, [&](const auto& place) { return place.second.size() > b.size() / 100 + 1; });
  }

  /// The number of characters in matching blocks.
  size_t matches() const {
    size_t sum = 0;
    std::vector<Range> open = {{0, a_.size(), 0, b_.size()}};
    while (!open.empty()) {
      const Range r = open.back();
      open.pop_back();
      const Match m = longest(r);
      if (m.size == 0) continue;
      sum += m.size;
      if (r.a < m.a && r.b < m.b) open.push_back({r.a, m.a, r.b, m.b});
      if (m.a + m.size < r.a_end && m.b + m.size < r.b_end)
        open.push_back({m.a + m.size, r.a_end, m.b + m.size, r.b_end});
    }
    return sum;
  }

 private:
  /// The longest match: of several the first in a, then the first in b.
  Match longest(const Range& r) const {
    Match best{r.a, r.b, 0};
    std::unordered_map<size_t, size_t> before, now;  // length of the match that ends at b[j]
    for (size_t i = r.a; i < r.a_end; ++i, std::swap(before, now)) {
      now.clear();
      const auto found = places_.find(a_[i]);
      if (found == places_.end()) continue;
      for (const size_t j : found->second) {
        if (j < r.b) continue;
        if (j >= r.b_end) break;
        const auto earlier = j > 0 ? before.find(j - 1) : before.end();
        const size_t size = (earlier == before.end() ? 0 : earlier->second) + 1;
        now[j] = size;
        if (size > best.size) best = {i + 1 - size, j + 1 - size, size};
      }
    }
    while (best.a > r.a && best.b > r.b && a_[best.a - 1] == b_[best.b - 1])
      best = {best.a - 1, best.b - 1, best.size + 1};
    while (best.a + best.size < r.a_end && best.b + best.size < r.b_end &&
           a_[best.a + best.size] == b_[best.b + best.size])
      ++best.size;
    return best;
  }

  std::u32string_view a_, b_;
  std::unordered_map<char32_t, std::vector<size_t>> places_;  // of b's characters, ascending
};

}  // namespace

double match_ratio(std::u32string_view a, std::u32string_view b) {
  const size_t length = a.size() + b.size();
  return length == 0 ? 1 : 2.0 * double(SequenceMatcher(a, b).matches()) / double(length);
}

}  // namespace blockgtq
