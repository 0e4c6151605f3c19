#pragma once
#include <string>

#include "eval/divergence.h"

namespace blockgtq {

/// One --fail-if: "kl>0.1". Metrics: kl (mean), kl99 (99 % quantile), ratio (perplexity over the exact
/// one's), top (share of equal first choices).
class Gate {
 public:
  explicit Gate(const std::string& text);  // Exit::usage when it cannot be read
  /// Whether the condition holds. NaN fails every gate: nothing was measured.
  bool fails(const Quality& quality) const;
  std::string text(const Quality& quality) const;  // "kl 0.12 > 0.1"

 private:
  double value(const Quality& quality) const;
  std::string metric_;
  bool above_ = true;
  double limit_ = 0;
};

}  // namespace blockgtq
