#pragma once
#include <string>

#include "hf/checkpoint.h"

namespace blockgtq {

/// Exit::input for a checkpoint that holds this model under names that are not read, or packed in integers. A
/// mere "missing" would make the user look for a broken download.
void refuse_other_names(const Checkpoint& model);

/// One line that counts and names the tensors that no part of the model uses; empty where there are none.
/// Exit::input for those that would change what transformers computes.
std::string unused_tensors(const Checkpoint& model);

}  // namespace blockgtq
