#pragma once
#include <memory>

#include "eval/quantized_cache.h"
#include "hf/checkpoint.h"
#include "model/backend.h"
#include "serve/sequence.h"

namespace blockgtq {

/// On the CPU, with keys and values as a quantized cache would give them back, encoded and decoded in place:
/// of every method. A prompt's tokens attend to each other that way, too. model and cache outlive it;
/// context: the tokens it may come to.
std::unique_ptr<Sequence> make_simulated_sequence(const Checkpoint& model, const QuantizedCache& cache,
                                                  int64_t context);

}  // namespace blockgtq
