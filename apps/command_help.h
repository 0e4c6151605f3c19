#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace blockgtq {

/// An option as help, manual pages and completion show it.
struct OptionText {
  std::vector<std::string> names;    // "-m", "--model"; of a positional its name
  std::string value;                 // "MODEL", "auto|cpu"; empty for a flag
  std::vector<std::string> choices;  // the values it may have, where they are few
  std::string what, fallback, variable;
  bool required = false, repeated = false, path = false, folder = false;

  std::string call() const;  // "-m, --model MODEL"
  std::string text() const;  // what it says, with default and variable
};

struct OptionGroup {
  std::string title;
  std::vector<OptionText> options;
};

/// The options of a command by group, in the order of option_groups(); a command's own, not those of all.
std::vector<OptionGroup> groups_of(const CLI::App& command);
std::vector<OptionText> positionals_of(const CLI::App& command);
/// Those that are shown, in their order.
std::vector<const CLI::App*> commands_of(const CLI::App& app);
/// "blockgtq bench decode"
std::string full_name(const CLI::App& command);
/// "blockgtq merge [OPTIONS] stats..."
std::string usage_of(const CLI::App& command);

/// Words in lines of at most `width` bytes.
std::vector<std::string> wrapped(const std::string& text, size_t width);

/// --help: groups, lines that fit a terminal, and the examples of examples.h.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

}  // namespace blockgtq
