#include "completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>

#include "base/error.h"
#include "command_help.h"
#include "option_table.h"

namespace blockgtq {
namespace {

/// Every command behind those that it belongs to, with the names on the way: "", "bench", "bench decode".
void for_each_command(const CLI::App& command, const std::string& name,
                      const std::function<void(const CLI::App&, const std::string&)>& body) {
  body(command, name);
  for (const CLI::App* each : commands_of(command))
    for_each_command(*each, name + (name.empty() ? "" : " ") + each->get_name(), body);
}

std::vector<std::string> command_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* each : commands_of(command)) names.push_back(each->get_name());
  return names;
}

/// Of a command, and behind those that every command takes.
std::vector<OptionText> options_of(const CLI::App& command) {
  std::vector<OptionText> options;
  const auto add = [&](const CLI::App& of, bool all) {
    for (const OptionGroup& group : groups_of(of))
      if (all || group.title == kAllCommands)
        options.insert(options.end(), group.options.begin(), group.options.end());
  };
  add(command, true);
  const CLI::App* root = &command;
  while (root->get_parent()) root = root->get_parent();
  if (root != &command) add(*root, false);
  return options;
}

/// The first sentence or clause: what a list of candidates has room for.
std::string brief(const std::string& text) {
  const size_t end = std::min({text.find(": "), text.find("; "), text.find(" ("), text.size()});
  return text.substr(0, end);
}

/// In single quotes, for all three shells.
std::string quoted(const std::string& text, const char* quote_escape) {
  std::string out = "'";
  for (const char c : text)
    if (c == '\'')
      out += quote_escape;
    else
      out += c;
  return out + "'";
}

const char* kBash = R"(# bash completion of blockgtq, written by `blockgtq completion bash`
_blockgtq() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= word i
  if [[ $current == = ]]; then current=; fi
  if [[ $previous == = ]]; then previous=${COMP_WORDS[COMP_CWORD - 2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case "$command|$word" in
@steps@
    esac
  done
  local values=
  case "$command $previous" in
@values@
  esac
  if [[ $values == . ]]; then return; fi
  if [[ -n $values ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current")
    return
  fi
  local words=
  case "$command" in
@words@
  esac
  if [[ $current == -* || " $words" != " -"* ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current"); fi
}
complete -o default -F _blockgtq blockgtq
)";

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  check(at != std::string::npos, "completion: a place in the script");
  return text.replace(at, what.size(), by);
}

std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// A case of "$command $previous": values, nothing to say ("."), or files (bash's own completion).
std::string bash_values(const OptionText& option, const std::string& name) {
  if (option.value.empty() || option.path) return "";
  std::vector<std::string> patterns;
  for (const std::string& each : option.names) patterns.push_back(fmt::format("'{} {}'", name, each));
  return fmt::format("    {}) values='{}' ;;\n", fmt::join(patterns, " | "),
                     option.choices.empty() ? "." : fmt::format("{}", fmt::join(option.choices, " ")));
}

std::string bash(const CLI::App& app) {
  std::string steps, values, words;
  for_each_command(app, "", [&](const CLI::App& command, const std::string& name) {
    for (const std::string& each : command_names(command))
      steps += fmt::format("      '{}|{}') command='{}{}{}' ;;\n", name, each, name, name.empty() ? "" : " ",
                           each);
    std::vector<std::string> all = command_names(command);
    for (const OptionText& option : options_of(command)) {
      values += bash_values(option, name);
      all.insert(all.end(), option.names.begin(), option.names.end());
    }
    words += fmt::format("    '{}') words='{}' ;;\n", name, fmt::join(all, " "));
  });
  std::string script = replaced(kBash, "@steps@", without_last_newline(steps));
  script = replaced(script, "@values@", without_last_newline(values));
  return replaced(script, "@words@", without_last_newline(words));
}

/// "_files", "(auto cpu)", or a message alone.
std::string zsh_action(const OptionText& option) {
  if (!option.choices.empty()) return fmt::format("({})", fmt::join(option.choices, " "));
  return option.folder ? "_files -/" : option.path ? "_files" : " ";
}

std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += c == '[' || c == ']' || c == ':' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out;
}

std::string zsh_option(const OptionText& option) {
  const std::string exclusive = option.repeated ? "*" : fmt::format("({})", fmt::join(option.names, " "));
  std::string text;
  for (const std::string& name : option.names) {
    std::string spec = fmt::format("{}{}[{}]", exclusive, name, zsh_text(brief(option.what)));
    if (!option.value.empty())
      spec += fmt::format(":{}:{}", zsh_text(option.choices.empty() ? option.value : "value"),
                          zsh_action(option));
    text += fmt::format("    {} \\\n", quoted(spec, "'\\''"));
  }
  return text;
}

std::string zsh_function(const std::string& name) {
  std::string function = "_blockgtq" + (name.empty() ? "" : "_" + name);
  std::replace_if(
      function.begin(), function.end(), [](char c) { return c == ' ' || c == '-'; }, '_');
  return function;
}

std::string zsh(const CLI::App& app) {
  std::string script =
      "#compdef blockgtq\n# zsh completion of blockgtq, written by `blockgtq completion zsh`\n";
  for_each_command(app, "", [&](const CLI::App& command, const std::string& name) {
    script += fmt::format("\n{}() {{\n  local state line\n  _arguments -s -C \\\n", zsh_function(name));
    for (const OptionText& option : options_of(command)) script += zsh_option(option);
    const std::vector<const CLI::App*> commands = commands_of(command);
    if (commands.empty()) {
      for (const OptionText& positional : positionals_of(command))
        script += fmt::format("    '{}:{}:{}' \\\n", positional.repeated ? "*" : "", positional.names[0],
                              zsh_action(positional));
      script += "    && return\n}\n";
      return;
    }
    script +=
        "    '1:command:->command' '*::argument:->argument' && return\n  case $state in\n  command)\n"
        "    local -a commands=(\n";
    for (const CLI::App* each : commands)
      script +=
          fmt::format("      {}\n", quoted(each->get_name() + ":" + brief(each->get_description()), "'\\''"));
    script += "    )\n    _describe command commands ;;\n  argument)\n    case $line[1] in\n";
    for (const CLI::App* each : commands)
      script += fmt::format("    {}) {} ;;\n", each->get_name(),
                            zsh_function(name + (name.empty() ? "" : " ") + each->get_name()));
    script += "    esac ;;\n  esac\n}\n";
  });
  return script +
         "\nif [ \"$funcstack[1]\" = _blockgtq ]; then _blockgtq \"$@\"; else compdef _blockgtq blockgtq; "
         "fi\n";
}

/// What holds where a command's words are complete: those that lead to it were seen, and none of its own.
std::string fish_condition(const CLI::App& command, const std::string& name, bool own) {
  std::string condition;
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find(' ', at), name.size());
    condition += fmt::format("{}__fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                             name.substr(at, end - at));
    at = end + 1;
  }
  if (const auto names = command_names(command); own && !names.empty())
    condition += fmt::format("{}not __fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                             fmt::join(names, " "));
  return condition.empty() ? "" : fmt::format(" -n '{}'", condition);
}

std::string fish_option(const OptionText& option, const std::string& condition) {
  std::string line = "complete -c blockgtq" + condition;
  for (const std::string& name : option.names)
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (!option.choices.empty())
    line += fmt::format(" -x -a '{}'", fmt::join(option.choices, " "));
  else if (option.path)
    line += option.folder ? " -x -a '(__fish_complete_directories)'" : " -r -F";
  else if (!option.value.empty())
    line += " -x";
  return fmt::format("{} -d {}\n", line, quoted(brief(option.what), "\\'"));
}

std::string fish(const CLI::App& app) {
  std::string script = "# fish completion of blockgtq, written by `blockgtq completion fish`\n";
  for_each_command(app, "", [&](const CLI::App& command, const std::string& name) {
    for (const CLI::App* each : commands_of(command))
      script += fmt::format("complete -c blockgtq{} -f -a {} -d {}\n", fish_condition(command, name, true),
                            each->get_name(), quoted(brief(each->get_description()), "\\'"));
    for (const OptionGroup& group : groups_of(command))
      for (const OptionText& option : group.options)
        script += fish_option(option, group.title == kAllCommands ? "" : fish_condition(command, name, true));
    for (const OptionText& positional : positionals_of(command))
      if (!positional.choices.empty())
        script += fmt::format("complete -c blockgtq{} -f -a '{}'\n", fish_condition(command, name, true),
                              fmt::join(positional.choices, " "));
  });
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  return shell == "bash" ? bash(app) : shell == "zsh" ? zsh(app) : fish(app);
}

}  // namespace blockgtq
