#pragma once
#include <memory>

#include "eval/quantized_cache.h"
#include "hf/checkpoint.h"
#include "model/backend.h"
#include "serve/sequence.h"

namespace blockgtq {

/// A Sequence on the CPU whose keys and values are encoded and decoded in place, by any method. A prompt's
/// tokens attend to each other through decoded keys and values, too. context: the tokens that the text may
/// grow to. `model` and `cache` must outlive the result.
std::unique_ptr<Sequence> make_simulated_sequence(const Checkpoint& model, const QuantizedCache& cache,
                                                  int64_t context);

}  // namespace blockgtq
