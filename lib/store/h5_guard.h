#pragma once
#include <functional>

#include "base/file.h"

namespace blockgtq {

/// Runs `reading` of the file at `path` in a child process first: HDF5 itself crashes, loops or asks for
/// memory without bound on some damaged files, before any check of ours. Exit::input "PATH: ..." where the
/// child does not survive or refuses. A file that passed is not tried again while it stays as it is.
void try_in_child(const fs::path& path, const std::function<void()>& reading);

}  // namespace blockgtq
