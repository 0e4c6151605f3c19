#pragma once
#include "model/backend.h"

namespace blockgtq {

/// Exit::input for a request that this model cannot be asked: no tokens, ids outside the vocabulary, a window
/// longer than the model's.
void check_request(const Checkpoint& model, const ForwardRequest& request);

/// The length of a chunk: what the request says, at most all tokens.
int64_t chunk_tokens(const ForwardRequest& request);

}  // namespace blockgtq
