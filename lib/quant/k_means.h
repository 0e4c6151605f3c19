#pragma once
#include <span>
#include <vector>

namespace blockgtq {

/// m centres (m, dim) of x (n, dim): k-means, begun with points drawn in proportion to their squared distance
/// from those before (k-means++). Deterministic, for any number of threads. With fewer than m different
/// points centres repeat. n >= 1.
std::vector<float> k_means(std::span<const float> x, int dim, int m);

}  // namespace blockgtq
