#pragma once
#include "model/backend.h"

namespace blockgtq {

/// Exit::input for a request that this model cannot serve: no tokens, ids outside the vocabulary, or a window
/// longer than the model's.
void check_request(const Checkpoint& model, const ForwardRequest& request);

/// The tokens of a chunk: as requested, at most all tokens.
int64_t chunk_tokens(const ForwardRequest& request);

}  // namespace blockgtq
