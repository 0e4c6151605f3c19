#pragma once
#include <string>

#include "base/json.h"

namespace blockgtq {

/// What a run does where an earlier one left something to go on with: it goes on, it begins anew, or it goes
/// on and has nothing else to do.
enum class Resume { automatic, never, must };

/// "temperature: 0 in the file, 0.6 here; model: ..." of the fields of two objects that differ; empty where
/// none does.
std::string differences(const Json& file, const Json& here);

}  // namespace blockgtq
