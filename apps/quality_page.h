#pragma once
#include <string>
#include <vector>

#include "quality_report.h"

namespace blockgtq {

/// The page of perplexity --html. chosen: caches were chosen for every model (ModelQuality::choices), so that
/// those of several models are no common lines of a chart. command: command_text.
std::string quality_html(const std::vector<ModelQuality>& models, const std::vector<ModelFailure>& failures,
                         bool chosen, const std::string& command);

}  // namespace blockgtq
