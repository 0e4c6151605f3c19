// Whether two sums have the same nodes.
#pragma once
#include "quant/stats.h"

namespace blockgtq::test {

inline bool same(const DyadicSum& a, const DyadicSum& b) {
  if (a.nodes().size() != b.nodes().size()) return false;
  for (size_t i = 0; i < a.nodes().size(); ++i) {
    const auto &x = a.nodes()[i], &y = b.nodes()[i];
    if (x.first != y.first || x.count != y.count || x.value != y.value) return false;
  }
  return true;
}

}  // namespace blockgtq::test
