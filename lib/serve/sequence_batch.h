#pragma once
#include <functional>
#include <memory>

#include "serve/batch.h"
#include "serve/sequence.h"

namespace blockgtq {

/// A new sequence that may come to so many tokens.
using MakeSequence = std::function<std::unique_ptr<Sequence>(int64_t context)>;

/// Texts each of which is a Sequence, one after the other at every step: on the CPU, the twin of
/// make_cuda_batch(). The texts' logits are those of the sequences alone, bit for bit.
std::unique_ptr<Batch> make_sequence_batch(int slots, MakeSequence make);

}  // namespace blockgtq
