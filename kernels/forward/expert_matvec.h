#pragma once
#include <cstdint>

#include "kernels/forward/matvec.h"

namespace blockgtq::cuda {

/// The most (token, expert) pairs of one product.
inline constexpr int kMaxVisits = 256;

/// Products of a few vectors, each with the matrices of the experts that a router has chosen for it on the
/// device. The matrices of experts that no vector goes to are not read; the others are read once.
struct ExpertMatVec {
  /// The product of one expert: rows, cols, n. w (n_experts, rows, cols) and bias (n_experts, rows) hold all
  /// experts. Either x (n, cols), which may be normed, and gated (n, n_per_token, rows / 2) are set; or x_low
  /// (n, n_per_token, cols) and y (n, rows) are, and y += scale times the weighted sum over the token's
  /// experts, of which those with a lower number are added first.
  MatVec product;
  int n_per_token = 0;
  const int32_t* expert = nullptr;  // (n, n_per_token); an expert that a token has twice counts once
  const float* weight = nullptr;    // (n, n_per_token), where y is set
  float limit = 0, alpha = 0;       // of Activation::clamped, which is allowed here
};

/// The most bytes that vectors may take which have to be rounded or normed.
int64_t max_expert_vector_bytes();

/// One launch, which may begin while the preceding kernel ends, and reads nothing before that kernel has
/// ended. Same inputs, same bits. A token's results do not depend on other tokens.
void expert_matvec(const ExpertMatVec& job, const Stream& stream);

}  // namespace blockgtq::cuda
