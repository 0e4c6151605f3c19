#pragma once
#include <functional>

#include "base/file.h"

namespace blockgtq {

/// Runs `reading`, which reads the file at `path`, in a child process first. On some damaged files HDF5
/// itself crashes, loops or asks for unbounded memory before any check of ours. Exit::input "PATH: ..." where
/// the child does not survive or refuses. A file that passed is not tried again while it is unchanged.
void try_in_child(const fs::path& path, const std::function<void()>& reading);

}  // namespace blockgtq
