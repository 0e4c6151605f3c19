#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace blockgtq {

/// A cache to choose from: its effect on the next token, and its cost.
struct Candidate {
  std::span<const double> kl;  // (T) against the exact cache, nats; all candidates at the same positions
  double bytes = 0;            // per token
};

/// The factor that turns a KL at `bytes` per token into one at `reference_bytes`, where n_numbers numbers per
/// token are quantized. It assumes that KL falls by a factor of 4 per bit.
double price(double bytes, double reference_bytes, double n_numbers);

/// The index of the candidate to take. The first is the reference. In order, each of the others replaces the
/// choice so far where its KL, both at equal bytes by price(), is lower by more than two standard errors of
/// the mean difference, which is paired position by position. So differences within noise never decide, nor
/// do fewer than two positions.
size_t choose(std::span<const Candidate> candidates, double n_numbers);

}  // namespace blockgtq
