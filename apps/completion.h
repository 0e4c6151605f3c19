#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace blockgtq {

inline constexpr const char* kShells[] = {"bash", "zsh", "fish"};

/// A script that completes commands, options, the values of those that have few, and files. shell: of
/// kShells.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace blockgtq
