#pragma once
#include <cstddef>
#include <functional>

namespace blockgtq {

/// Threads used by parallel_for: n >= 1, or 0 for OMP_NUM_THREADS where it is set, else the processors this
/// process may run on.
void set_threads(int n);
int threads();

/// Runs body(i) for i in [0, n) on threads() threads, in no particular order. The work split into n pieces
/// must not depend on the number of threads: then results do not either. The exception of the lowest i that
/// threw is rethrown.
void parallel_for(size_t n, const std::function<void(size_t)>& body);

}  // namespace blockgtq
