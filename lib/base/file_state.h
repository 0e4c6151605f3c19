#pragma once
#include <compare>
#include <cstdint>

#include "base/file.h"

namespace blockgtq {

/// Which file a path names, and as of when: what was found out about a file holds while this stays as it is.
struct FileState {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t seconds = 0, nanoseconds = 0;  // of its last change
  auto operator<=>(const FileState&) const = default;

  /// Whether a change from now on is sure to show: time stamps of some file systems are as coarse as a
  /// second.
  bool settled() const;
};

/// Exit::input where there is no such file or it is not a regular one.
FileState file_state(const fs::path& path);

}  // namespace blockgtq
