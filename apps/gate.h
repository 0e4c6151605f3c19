#pragma once
#include <string>

namespace blockgtq {

/// One --fail-if: "kl>0.1".
class Gate {
 public:
  /// Exit::usage when it cannot be read: `metrics` says which there are.
  Gate(const std::string& text, const std::string& metrics);
  const std::string& metric() const { return metric_; }
  /// Whether the condition holds. NaN fails every gate: nothing was measured.
  bool fails(double found) const;
  std::string text(double found) const;  // "kl 0.12 > 0.1"

 private:
  std::string metric_;
  bool above_ = true;
  double limit_ = 0;
};

}  // namespace blockgtq
