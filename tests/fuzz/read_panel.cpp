// panel.json: what is taken names models, budgets and counts that can be meant.
#include "base/error.h"
#include "panel_spec.h"
#include "reader.h"

namespace blockgtq {

void fuzz_panel(std::string_view input) {
  const PanelSpec spec = read_panel_spec(scratch_file("panel.json", input));
  check(!spec.models.empty() && !spec.bits.empty(), "an empty panel");
  check(spec.calibration_tokens >= 0 && spec.evaluation_tokens >= 0 && spec.chunk >= 0, "negative counts");
}

}  // namespace blockgtq
