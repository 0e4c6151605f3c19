#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace blockgtq {

/// The command to type again: its options as they were given on the command line, by the environment or a
/// file, quoted for a shell. Left out is where results go and how a run goes on.
std::string command_text(const CLI::App& command);

}  // namespace blockgtq
