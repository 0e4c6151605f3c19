#pragma once
#include <string>

#include "base/json.h"

namespace blockgtq {

/// What a run does where an earlier one left a state. automatic: it continues from it, or begins anew where
/// there is none. never: it begins anew. must: it continues, and fails where there is nothing to continue
/// from.
enum class Resume { automatic, never, must };

/// The fields of two objects that differ: "temperature: 0 in the file, 0.6 here; model: ...". Empty where
/// none does.
std::string differences(const Json& file, const Json& here);

}  // namespace blockgtq
