#pragma once
#include <cstddef>
#include <functional>

namespace blockgtq {

/// The number of threads of parallel_for(): n >= 1, or 0 for OMP_NUM_THREADS where that is set, else the
/// processors that this process may run on.
void set_threads(int n);
int threads();

/// Makes threads that wait for the next loop sleep instead of spinning, and gives them 8 MiB of stack
/// whatever `ulimit -s` says. OpenMP's runtime reads both from the environment before main() begins. So where
/// the user has not set them, this sets them and starts the program anew. Call it first in main().
void use_sleeping_threads(char** argv);

/// Runs body(i) for i in [0, n) on threads() threads, in no particular order. How the work is split into n
/// pieces must not depend on the number of threads; then results do not either. The exception of the lowest i
/// that threw is rethrown.
void parallel_for(size_t n, const std::function<void(size_t)>& body);

}  // namespace blockgtq
