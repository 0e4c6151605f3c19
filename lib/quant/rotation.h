#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace blockgtq {

/// The Haar rotation of TurboQuant-MSE as published, (d, d) row-major, y = Rot x:
/// default_rng(seed).standard_normal((d, d)), QR, columns times sign(diag R), first column negated if det <
/// 0.
std::vector<double> haar_rotation(int d, uint64_t seed);

/// The same in float32, computed once per (d, seed) in a process and shared.
std::shared_ptr<const std::vector<float>> shared_rotation(int d, uint64_t seed);

}  // namespace blockgtq
