#pragma once
#include <string>

#include "report/panel_view.h"

namespace blockgtq {

/// The tables of the page as HTML. They sort.
/// A row per budget and method: means over the models.
std::string summary_table(const PanelView& view);
/// A row per model, a column per method; a table per budget for what is chosen to be shown.
std::string model_tables(const PanelView& view);
/// The errors of every layer.
std::string layer_table(const PanelView& view, const PanelModel& model);

/// The result of one method at one budget in a layer of eval-logits; null when it has none.
const Json* find_result(const Json& layer, const std::string& method, double bits);

}  // namespace blockgtq
