#pragma once
#include "base/file.h"

namespace blockgtq {

/// Whether there is something under this name. Where the system cannot say, for links that lead in a circle
/// or a name that is too long, there is: who opens it hears what is wrong.
bool is_there(const fs::path& path) noexcept;

}  // namespace blockgtq
