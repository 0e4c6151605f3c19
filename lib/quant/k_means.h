#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace blockgtq {

/// m centres (m, dim) of x (n, dim): k-means, begun with points drawn in proportion to their squared distance
/// from those before (k-means++). Deterministic, for any number of threads. With fewer than m different
/// points centres repeat. n >= 1.
std::vector<float> k_means(std::span<const float> x, int dim, int m);

/// The nearest of centres (m, dim), by number, to every row of x (n, dim); the lowest of equals. (n)
std::vector<size_t> nearest_centres(std::span<const float> x, int dim, std::span<const float> centres);

}  // namespace blockgtq
