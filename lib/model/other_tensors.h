#pragma once
#include <string>

#include "hf/checkpoint.h"

namespace blockgtq {

/// Refuses (Exit::input) a checkpoint that holds this model under names that are not read, or packed in
/// integers. "Missing" alone would send the user to look for a broken download.
void refuse_other_names(const Checkpoint& model);

/// Tensors that no part of the model takes: one line that counts and names them, empty where there are none.
/// Those that would change what transformers computes are refused.
std::string unused_tensors(const Checkpoint& model);

}  // namespace blockgtq
