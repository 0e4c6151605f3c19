#pragma once
#include <cstddef>
#include <functional>

namespace blockgtq {

/// Runs `work` on this thread and, at the same time, on up to n_more threads of the process's pool; returns
/// when all that began have ended. A thread that comes when this one is through does not begin any more: on a
/// machine with more threads than processors nobody waits for one that has not been given a processor yet.
/// Threads without work sleep. `work` must not throw. Any number of threads may call this at a time; what
/// they ask for they share.
void run_together(size_t n_more, const std::function<void()>& work);

/// Whether this thread is inside of run_together.
bool runs_together();

}  // namespace blockgtq
