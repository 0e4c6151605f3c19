#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace blockgtq {

/// A cache that may take the place of another: what it does to the next token, and what it costs.
struct Candidate {
  std::span<const double> kl;  // (T) against the exact cache, nats; the same positions for all
  double bytes = 0;            // per token
};

/// KL falls by 4 per bit: the factor that compares a KL at `bytes` per token with one at `reference_bytes`,
/// n_numbers numbers per token being quantized.
double price(double bytes, double reference_bytes, double n_numbers);

/// Which of them to take: the first is the reference, and each of the others, in this order, takes the place
/// of what is chosen so far where its KL, both priced, is lower by more than two standard errors of the mean
/// difference, paired position by position. What is within noise never decides; nor do fewer than two
/// positions.
size_t choose(std::span<const Candidate> candidates, double n_numbers);

}  // namespace blockgtq
