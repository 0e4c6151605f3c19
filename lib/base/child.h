#pragma once
#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.h"

namespace blockgtq {

/// What a child process may take.
struct ChildLimits {
  int seconds = 10;                      // of processor time; 20 times as many on the clock
  uint64_t bytes = uint64_t(512) << 20;  // of address space, beside what it begins with
};

/// How it ended.
struct ChildEnd {
  enum class How { done, failed, crashed, late, no_memory };
  How how = How::done;
  std::optional<Error> error;  // failed: what the body threw
  int signal = 0;              // crashed: what ended it; 0 where it ended itself
};

/// Runs `body` in a child process, a copy of this one as it is now, so that nothing that goes wrong there can
/// harm this process: a crash, an endless loop, memory without bound. The child has this thread only, writes
/// to neither stream and leaves no core; what it changes in memory is lost. Its threads being gone, `body`
/// must not use OpenMP or a GPU.
/// Exit::device where no process can be started; whatever check_stop() throws while it runs.
ChildEnd run_in_child(const ChildLimits& limits, const std::function<void()>& body);

}  // namespace blockgtq
