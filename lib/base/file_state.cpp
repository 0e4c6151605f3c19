#include "base/file_state.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/error.h"

namespace blockgtq {

bool FileState::settled() const {
  return std::time(nullptr) - seconds > 2;
}

FileState file_state(const fs::path& path) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0) fail_input("{}: cannot open: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(s.st_mode)) fail_input("{}: not a regular file", path.string());
  return {s.st_dev, s.st_ino, uint64_t(s.st_size), s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
}

}  // namespace blockgtq
