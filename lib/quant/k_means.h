#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace blockgtq {

/// k-means with k-means++ seeding: m centres (m, dim) of the points x (n, dim), n >= 1. Deterministic, for
/// any number of threads. With fewer than m different points some centres are equal.
std::vector<float> k_means(std::span<const float> x, int dim, int m);

/// For every row of x (n, dim) the index of the nearest of centres (m, dim), the lowest where several are
/// equally near. (n)
std::vector<size_t> nearest_centres(std::span<const float> x, int dim, std::span<const float> centres);

}  // namespace blockgtq
