#pragma once
#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.h"

namespace blockgtq {

/// The resources that a child process may use.
struct ChildLimits {
  int seconds = 10;                      // of processor time; 20 times as many of wall time
  uint64_t bytes = uint64_t(512) << 20;  // of address space, besides what it begins with
};

/// How the child process ended.
struct ChildEnd {
  enum class How { done, failed, crashed, late, no_memory };
  How how = How::done;
  std::optional<Error> error;  // failed: what the body threw
  int signal = 0;              // crashed: the signal that ended it; 0 where it ended itself
};

/// Runs `body` in a child process, a copy of this one as it is now. So nothing that goes wrong there can harm
/// this process: a crash, an endless loop, unbounded memory. The child has this thread only, writes to
/// neither stream and leaves no core. What it changes in memory is lost. `body` must not use OpenMP or a GPU,
/// because their threads are not copied.
/// Exit::device where no process can be started, and whatever check_stop() throws while the child runs.
ChildEnd run_in_child(const ChildLimits& limits, const std::function<void()>& body);

}  // namespace blockgtq
