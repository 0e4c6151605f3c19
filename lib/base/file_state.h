#pragma once
#include <compare>
#include <cstdint>

#include "base/file.h"

namespace blockgtq {

/// Identifies a file and its last change. What was found out about a file holds as long as its state is
/// equal.
struct FileState {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t seconds = 0, nanoseconds = 0;  // of its last change
  auto operator<=>(const FileState&) const = default;

  /// Whether any later change is sure to show in the state. The time stamps of some file systems are as
  /// coarse as a second.
  bool settled() const;
};

/// Exit::input where there is no such file or it is not a regular one.
FileState file_state(const fs::path& path);

}  // namespace blockgtq
