#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace blockgtq {

/// Gives every command and option its group, and in place of TEXT a word for what an option's value is:
/// MODEL, FILE, MAP.h5. To be called when all commands are there.
void name_groups(CLI::App& app);
/// The group of options that every command takes.
inline constexpr const char* kAllCommands = "All commands";
/// The groups in the order in which they are shown.
const std::vector<std::string>& option_groups();

/// Whether the value is a file or a folder.
bool takes_path(const CLI::Option& option);
bool takes_folder(const CLI::Option& option);

/// "-" is standard input or output where a file is text or JSON. Exit::usage where a model, a folder, an HDF5
/// file or a picture is expected.
void refuse_standard_streams(const CLI::App& app);

}  // namespace blockgtq
