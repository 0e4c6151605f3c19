#include "base/file_lock.h"

#include <cerrno>

namespace blockgtq {

int lock_file(int fd, bool wait, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  while (fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock) != 0) {
    if (errno != EINTR) return errno == EACCES ? EAGAIN : errno;
  }
  return 0;
}

}  // namespace blockgtq
