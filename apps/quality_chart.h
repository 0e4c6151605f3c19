#pragma once
#include <string>
#include <vector>

#include "quality_report.h"

namespace blockgtq {

/// KL (logarithmic) against bytes per token as SVG: a line for the budgets of every pair of methods, code and
/// exact positions, and the lowest KL at no more bytes as a band. Colour is for the lines that touch the
/// band, and for tq-mse and block-gtq as published. Several models: cache_means. `left_out` takes the caches
/// that a logarithmic axis has no place for.
std::string quality_chart(const std::vector<ModelQuality>& models, std::vector<std::string>& left_out);

}  // namespace blockgtq
