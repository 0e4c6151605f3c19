#pragma once
#include <string>

#include "report/panel_view.h"

namespace blockgtq {

/// The tables of the page as HTML, each inside a box that scrolls sideways.
std::string summary_table(const PanelView& view, size_t budget);
std::string layer_table(const PanelView& view, const PanelModel& model);

/// The result of one method at one budget in a layer of eval-logits; null when it has none.
const Json* find_result(const Json& layer, const std::string& method, double bits);

}  // namespace blockgtq
