#pragma once
#include <string>

#include "base/json.h"

namespace blockgtq {

/// --version --json (schema blockgtq.version/1): version, commit (null where it is not known), compiler,
/// build type, processor, CUDA architectures (none without CUDA), and the versions of the libraries built
/// with.
Json build_info();

/// "YYYY-MM-DD": of the commit, or of the build.
const char* build_date();

}  // namespace blockgtq
