#pragma once
#include <string>

#include "report/panel_view.h"

namespace blockgtq {

/// Error against bytes per token, a line per method over its budgets and the lowest error as a band: over the
/// models that have all of them, geometric means. Empty where no model has.
std::string error_against_bytes(const PanelView& view);

/// The error of every layer of one model: one colour per method, one kind of line per budget; a chart for
/// each budget where one would hold more lines than an eye can follow.
std::string error_charts(const PanelView& view, const Json& eval);

}  // namespace blockgtq
