#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/command.h"

namespace blockgtq {

/// Writes a panel of these models, 256 tokens of each text, and returns its path.
inline std::string small_panel(const TempFolder& dir, const std::vector<std::string>& names) {
  nlohmann::json spec = {{"schema", "blockgtq.panel-spec/1"},
                         {"calibration", {{"text", text("calibration")}, {"tokens", 256}}},
                         {"evaluation", {{"text", text("evaluation")}, {"tokens", 256}}},
                         {"chunk", 256},
                         {"bits", {3}},
                         {"methods", {"tq-mse"}}};
  for (const std::string& name : names) spec["models"].push_back({{"name", name}, {"path", model(name)}});
  put_file(dir / "spec.json", spec.dump());
  return dir / "spec.json";
}

}  // namespace blockgtq
