#pragma once
#include <functional>
#include <memory>

#include "serve/batch.h"
#include "serve/sequence.h"

namespace blockgtq {

/// Makes a new sequence that may grow to `context` tokens.
using MakeSequence = std::function<std::unique_ptr<Sequence>(int64_t context)>;

/// A Batch on the CPU: every text is a Sequence, and a step advances one after the other. The logits are
/// those of the sequences alone, bit for bit.
std::unique_ptr<Batch> make_sequence_batch(int slots, MakeSequence make);

}  // namespace blockgtq
