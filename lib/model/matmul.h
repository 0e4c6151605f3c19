#pragma once
#include <cstdint>

#include "model/weights.h"

namespace blockgtq {

/// y = x W^T + b: x (n, cols), y (n, rows), float32. Weights are converted tile by tile; the tiles do not
/// depend on the number of threads, so neither does y.
void linear(const Linear& w, const float* x, int64_t n, float* y);

/// The same for weights that lie in this checkpoint: their pages leave the resident set as they are done
/// with, so that it holds some 32 MiB of them whatever the matrix.
void linear(const Checkpoint& model, const Linear& w, const float* x, int64_t n, float* y);

}  // namespace blockgtq
