#pragma once
#include <fcntl.h>

namespace blockgtq {

/// A lock that lives as long as this open file, so that the leftover of a killed run can be told from another
/// run's work: exclusive (F_WRLCK), or shared (F_RDLCK) for a file that is open for reading only. Not
/// flock(): HDF5 opens the same file again and wants that one for itself. Returns 0 or the error; EAGAIN:
/// somebody else has it.
int lock_file(int fd, bool wait, short type = F_WRLCK);

}  // namespace blockgtq
