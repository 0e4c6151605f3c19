#pragma once
#include "base/parallel.h"

namespace blockgtq {

/// Runs body(i) for i in [0, n). Uses threads() threads where one thread would take kWorthSharing nanoseconds
/// or more, else this one. Waking another thread costs up to a scheduler's time slice on a busy machine, and
/// small models have thousands of such steps. The pieces are the same either way. nanoseconds: an estimate
/// for one thread.
template <class Body>
void share(size_t n, double nanoseconds, const Body& body) {
  constexpr double kWorthSharing = 300'000;
  if (nanoseconds >= kWorthSharing) {
    parallel_for(n, body);
  } else {
    for (size_t i = 0; i < n; ++i) body(i);
  }
}

}  // namespace blockgtq
