#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace blockgtq {

/// The manual pages of blockgtq and of every command, as roff (man macros): file name, "blockgtq-merge.1",
/// and text.
std::vector<std::pair<std::string, std::string>> manual_pages(const CLI::App& app);

}  // namespace blockgtq
