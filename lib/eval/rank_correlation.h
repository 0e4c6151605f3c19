#pragma once
#include <vector>

namespace blockgtq {

/// Spearman's rank correlation of x and y (same size): Pearson's correlation of their ranks, where equal
/// values share the mean of their ranks. NaN with fewer than two values, or where one side is constant.
double rank_correlation(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace blockgtq
