#pragma once
#include <string>

#include "base/file.h"

namespace blockgtq {

/// Switches off HDF5's own exit handler and error printing: after a full disk that handler crashes (HDF5
/// 1.10). Every reader and writer here calls this before anything else. Calling it again does nothing.
void prepare_hdf5();

/// Whether a file begins as HDF5 does. Exit::input where it cannot be read.
bool is_hdf5(const fs::path& path);

/// The root attribute `schema` of one of our files: "blockgtq.acts", "blockgtq.stats", "blockgtq.map",
/// "blockgtq.packed". Exit::input when it is not an HDF5 file, has no schema, or was never completed.
std::string read_schema(const fs::path& path);

}  // namespace blockgtq
