#include "base/presence.h"

#include <sys/stat.h>

#include <cerrno>

namespace blockgtq {

bool is_there(const fs::path& path) noexcept {
  struct stat st;
  return stat(path.c_str(), &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

}  // namespace blockgtq
