#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "allocator_options.h"
#include "base/file.h"

namespace blockgtq {

struct PanelEntry {
  std::string name;
  fs::path path;
};

/// A panel.json of ours (schema blockgtq.panel-spec/1), paths made absolute against its folder.
struct PanelSpec {
  fs::path calibration, evaluation;
  int64_t calibration_tokens = 0, evaluation_tokens = 0, chunk = 256;
  std::vector<double> bits;
  std::vector<std::string> methods;
  std::vector<PanelEntry> models;
  AllocatorOptions allocation;  // as published where the file says nothing
};

/// Exit::input names the file, the key and what is wrong with it. bits and methods, when not empty, are lists
/// of the command line that take the file's place.
PanelSpec read_panel_spec(const fs::path& path, const std::string& bits = "",
                          const std::string& methods = "");

}  // namespace blockgtq
