#pragma once
#include <string>

#include "base/json.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// Renders a panel.json (schema blockgtq.panel/1, lib/store/README.md). The JSON is ours: a missing key is a
/// defect, except that a model whose "status" is not "ok" has "error" in place of "eval".
std::string panel_markdown(const Json& panel);
std::string panel_csv(
    const Json& panel);  // one row per model, bits, method, layer; layer "mean" for the summary
/// One page (report/page.h): methods against each other, then every model: errors of its layers, its map and
/// fingerprint, what makes it hard; the command and provenance.
std::string panel_html(const Json& panel);

/// The same of one document of eval-logits.
struct EvalPage {
  const Json& eval;
  const BitMap* map = nullptr;  // null: without one
  std::string tables;           // html: more than the errors
  std::string command, version;
};
std::string eval_html(const EvalPage& page);

}  // namespace blockgtq
