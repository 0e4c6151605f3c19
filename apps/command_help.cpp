#include "command_help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "examples.h"
#include "option_table.h"
#include "options.h"

namespace blockgtq {
namespace {

constexpr size_t kWidth = 96, kIndent = 28;  // columns; of what stands behind a name

/// "TEXT:{auto,cpu}" -> "auto", "cpu".
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find(":{"), end = type.rfind('}');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return split(type.substr(begin + 2, end - begin - 2), ',');
}

OptionText text_of(const CLI::Option& option) {
  OptionText o;
  if (!option.nonpositional()) {
    o.names = {option.get_name()};
  } else {
    for (const std::string& name : option.get_snames()) o.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) o.names.push_back("--" + name);
  }
  const bool flag = option.get_expected_min() == 0;
  const std::string type = option.get_type_name();
  o.choices = choices_of(option);
  if (!flag && option.nonpositional())
    o.value =
        o.choices.empty() ? type.substr(0, type.find(':')) : fmt::format("{}", fmt::join(o.choices, "|"));
  o.what = option.get_description();
  o.fallback = flag ? "" : option.get_default_str();
  o.variable = option.get_envname();
  o.required = option.get_required();
  o.repeated = option.get_expected_max() > 1;
  o.path = takes_path(option);
  o.folder = takes_folder(option);
  return o;
}

std::string two_columns(const std::string& left, const std::string& right) {
  std::string text = "  " + left;
  if (text.size() + 2 > kIndent) text += "\n" + std::string(kIndent, ' ');
  text.resize(std::max(text.size(), kIndent), ' ');
  bool first = true;
  for (const std::string& line : wrapped(right, kWidth - kIndent)) {
    text += (first ? "" : "\n" + std::string(kIndent, ' ')) + line;
    first = false;
  }
  return text + "\n";
}

std::string options_text(const std::string& title, const std::vector<OptionText>& options) {
  std::string text = fmt::format("\n{}:\n", title);
  for (const OptionText& option : options) text += two_columns(option.call(), option.text());
  return text;
}

std::string paragraph(const std::string& text) {
  return fmt::format("{}\n", fmt::join(wrapped(text, kWidth), "\n"));
}

std::string commands_text(const CLI::App& app) {
  std::vector<std::pair<std::string, std::string>> groups;  // as they come
  for (const CLI::App* command : commands_of(app)) {
    const std::string& title = command->get_group();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == title; });
    if (group == groups.end()) group = groups.insert(groups.end(), {title, fmt::format("\n{}:\n", title)});
    group->second += two_columns(command->get_name(), command->get_description());
  }
  std::string text;
  for (const auto& group : groups) text += group.second;
  return text;
}

std::string examples_text(const std::string& command) {
  std::string text;
  for (const Example& example : examples_of(command))
    text += fmt::format("{}\n  # {}\n  {}\n", text.empty() ? "\nExamples:" : "", example.what, example.line);
  return text;
}

}  // namespace

std::string OptionText::call() const {
  return fmt::format("{}{}{}", fmt::join(names, ", "), value.empty() ? "" : " ", value);
}

std::string OptionText::text() const {
  std::vector<std::string> notes;
  if (required && !value.empty()) notes.push_back("required");
  if (!fallback.empty()) notes.push_back("default " + fallback);
  if (!variable.empty()) notes.push_back(variable);
  return notes.empty() ? what : fmt::format("{} ({})", what, fmt::join(notes, ", "));
}

std::vector<OptionGroup> groups_of(const CLI::App& command) {
  std::vector<std::string> titles = option_groups();
  for (const std::string& title : command.get_groups())
    if (!title.empty() && std::find(titles.begin(), titles.end(), title) == titles.end())
      titles.push_back(title);
  std::vector<OptionGroup> groups;
  for (const std::string& title : titles) {
    OptionGroup group{title, {}};
    for (const CLI::Option* option : command.get_options())
      if (option->nonpositional() && option->get_group() == title) group.options.push_back(text_of(*option));
    if (!group.options.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

std::vector<OptionText> positionals_of(const CLI::App& command) {
  std::vector<OptionText> positionals;
  for (const CLI::Option* option : command.get_options())
    if (!option->nonpositional()) positionals.push_back(text_of(*option));
  return positionals;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

std::string full_name(const CLI::App& command) {
  return (command.get_parent() ? full_name(*command.get_parent()) + " " : "") + command.get_name();
}

std::string usage_of(const CLI::App& command) {
  std::string usage = full_name(command);
  if (!commands_of(command).empty())
    return usage + (command.get_parent() ? " COMMAND [OPTIONS]" : " [OPTIONS] COMMAND");
  usage += " [OPTIONS]";
  for (const OptionText& p : positionals_of(command)) {
    const std::string name = p.names[0] + (p.repeated ? "..." : "");
    usage += p.required ? " " + name : " [" + name + "]";
  }
  return usage;
}

std::vector<std::string> wrapped(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  for (const std::string& word : split(text, ' '))
    if (lines.empty() || lines.back().size() + 1 + word.size() > width)
      lines.push_back(word);
    else
      lines.back() += " " + word;
  return lines;
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  std::string text = paragraph(app->get_description());
  text += fmt::format("\nUsage: {}\n", usage_of(*app));
  if (const auto positionals = positionals_of(*app); !positionals.empty())
    text += options_text("Arguments", positionals);
  text += commands_text(*app);
  for (const OptionGroup& group : groups_of(*app)) text += options_text(group.title, group.options);
  text += examples_text(full_name(*app));
  if (app->get_parent())
    text += "\nblockgtq --help lists the options of all commands (-t, -q, --progress, --config).\n";
  return text;
}

}  // namespace blockgtq
