#include <utility>

#include "base/error.h"
#include "quant/stats.h"

namespace blockgtq {

// The nodes are always the maximal dyadic intervals of the range held, and a node's value is the sum of its
// two halves. So both follow from the range alone, not from how it was cut.
void DyadicSum::collapse() {
  while (nodes_.size() >= 2) {
    Node& left = nodes_[nodes_.size() - 2];
    const Node& right = nodes_.back();
    if (left.count != right.count || left.first % (2 * left.count) != 0) return;
    for (size_t i = 0; i < left.value.size(); ++i) left.value[i] += right.value[i];
    left.count *= 2;
    nodes_.pop_back();
  }
}

void DyadicSum::add_chunk(int64_t chunk, std::vector<double> value) {
  check(chunk >= 0, "DyadicSum: negative chunk");
  if (!nodes_.empty()) {
    check(chunk == nodes_.back().first + nodes_.back().count, "DyadicSum: chunk out of order");
    check(value.size() == nodes_.back().value.size(), "DyadicSum: value of another size");
  }
  nodes_.push_back({chunk, 1, std::move(value)});
  collapse();
}

void DyadicSum::append(const DyadicSum& next) {
  for (const Node& node : next.nodes_) {
    if (!nodes_.empty()) {
      check(node.first == nodes_.back().first + nodes_.back().count, "DyadicSum: not a neighbour");
      check(node.value.size() == nodes_.back().value.size(), "DyadicSum: value of another size");
    }
    nodes_.push_back(node);
    collapse();
  }
}

std::vector<double> DyadicSum::total() const {
  if (nodes_.empty()) return {};
  std::vector<double> sum = nodes_.front().value;
  for (size_t k = 1; k < nodes_.size(); ++k)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += nodes_[k].value[i];
  return sum;
}

}  // namespace blockgtq
