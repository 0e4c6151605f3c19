#pragma once
#include <string>

#include "base/json.h"

namespace blockgtq {

/// Renders a panel.json (schema blockgtq.panel/1, lib/store/README.md). The JSON is ours: a missing key is a
/// defect, except that a model whose "status" is not "ok" has "error" in place of "eval".
std::string panel_markdown(const Json& panel);
std::string panel_csv(
    const Json& panel);  // one row per model, bits, method, layer; layer "mean" for the summary
/// One self-contained page: the summary table (model, TQ-MSE, Block-GTQ, reduction, wins per layers) per
/// budget, per-layer MAE chart and bit fingerprint of every model, then the command and provenance.
std::string panel_html(const Json& panel);

}  // namespace blockgtq
