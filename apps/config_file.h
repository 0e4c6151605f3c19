#pragma once
#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

namespace blockgtq {

/// --config FILE.toml: options of all commands stand at the top, those of a command in its [section];
/// underscore and hyphen are the same. Sections of other commands are checked and left alone. Exit::usage,
/// with file and line, for a key or a section that nobody knows, with the nearest right one, and for what is
/// not TOML.
class ConfigFile final : public CLI::ConfigTOML {
 public:
  explicit ConfigFile(const CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& in) const override;
  /// "FILE: line N" of the option ("--tokens") whose value came from the file, else empty.
  std::string origin(const std::string& option) const;

 private:
  const CLI::App& app_;
  mutable std::map<std::string, std::string> origins_;
};

/// After the command line is parsed: a variable whose value its option refuses is an error, as on the command
/// line. CLI11 2.4 leaves it out without a word (App::_process_env), 2.1 reports it.
void require_environment(CLI::App& app);

/// Once the command line is parsed: options of all commands have their variables' names, to be shown.
void name_variables(CLI::App& app);

/// Gives every option of every command its BLOCKGTQ_ variable, and --config FILE.toml behind them: flag, then
/// environment, then file.
const ConfigFile& add_environment_and_config(CLI::App& app);

}  // namespace blockgtq
