#pragma once
#include <fcntl.h>

namespace blockgtq {

/// Locks an open file for as long as it stays open, so that what a killed run left can be told from another
/// run's work. The lock is exclusive (F_WRLCK), or shared (F_RDLCK) for a file that is open for reading only.
/// It is not flock(), because HDF5 opens the same file again and wants that lock for itself. Returns 0 or the
/// error; EAGAIN where somebody else has the lock.
int lock_file(int fd, bool wait, short type = F_WRLCK);

}  // namespace blockgtq
