#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// A command line that works as it stands, once MODEL and files have names of their own, and what it is for.
struct Example {
  const char *line, *what;
};

/// Of a command by its full name, "blockgtq bench decode"; of "blockgtq" the way from a model to a report.
std::vector<Example> examples_of(const std::string& command);

}  // namespace blockgtq
