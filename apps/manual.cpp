#include "manual.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "build_info.h"
#include "command_help.h"
#include "examples.h"
#include "options.h"

namespace blockgtq {
namespace {

constexpr std::pair<Exit, const char*> kExitCodes[] = {
    {Exit::ok, "done"},
    {Exit::defect, "a defect of blockgtq; or some models of a panel failed"},
    {Exit::usage, "usage"},
    {Exit::input, "an input is wrong or not supported"},
    {Exit::output, "an output cannot be written"},
    {Exit::device, "the device: none, wrong architecture, out of memory"},
    {Exit::nonfinite, "non-finite numbers, named by layer, projection, token"},
    {Exit::gate, "a gate asked for with --fail-if was not met"},
    {Exit::stopped, "stopped by SIGTERM or SIGUSR1 after a good checkpoint: run it again"},
    {Exit::interrupted, "interrupted"}};

/// Text in which roff sees no request and no escape. Hyphens are those of command lines, to be copied.
std::string plain(const std::string& text) {
  std::string out = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  return out;
}

/// Lines that are not too long for who reads the source.
std::string paragraph(const std::string& text) {
  std::string out;
  for (const std::string& line : wrapped(text, 72)) out += plain(line) + "\n";
  return out;
}

/// "blockgtq-bench-decode"
std::string page_name(const CLI::App& command) {
  std::string name = full_name(command);
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

std::string section(const char* title, const std::string& text) {
  return text.empty() ? "" : fmt::format(".SH {}\n{}", title, text);
}

std::string call(const OptionText& option) {
  std::string names;
  for (const std::string& name : option.names)
    names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", plain(name));
  return option.value.empty() ? names : fmt::format("{} \\fI{}\\fR", names, plain(option.value));
}

std::string options_text(const std::vector<OptionText>& options) {
  std::string text;
  for (const OptionText& option : options)
    text += fmt::format(".TP\n{}\n{}", call(option), paragraph(option.text()));
  return text;
}

std::string all_options(const CLI::App& command) {
  std::string text;
  if (const auto positionals = positionals_of(command); !positionals.empty())
    text += ".SS Arguments\n" + options_text(positionals);
  for (const OptionGroup& group : groups_of(command))
    text += fmt::format(".SS {}\n{}", group.title, options_text(group.options));
  return text;
}

std::string commands_text(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : commands_of(app))
    text += fmt::format(".TP\n\\fB{}\\fR(1)\n{}", plain(page_name(*command)),
                        paragraph(command->get_description()));
  return text;
}

std::string examples_text(const CLI::App& command) {
  std::string text;
  for (const Example& example : examples_of(full_name(command))) {
    if (!text.empty()) text += ".PP\n";
    text += fmt::format("{}.PP\n.nf\n.RS 4\n", paragraph(example.what + std::string(":")));
    const std::vector<std::string> lines = wrapped(example.line, 68);
    for (size_t i = 0; i < lines.size(); ++i)
      text += fmt::format("{}{}{}\n", i ? "    " : "", plain(lines[i]), i + 1 < lines.size() ? " \\e" : "");
    text += ".RE\n.fi\n";
  }
  return text;
}

std::string codes_text() {
  std::string text;
  for (const auto& [code, meaning] : kExitCodes)
    text += fmt::format(".TP\n\\fB{}\\fR\n{}", int(code), paragraph(meaning));
  return text;
}

std::string neighbours(const CLI::App& command) {
  std::string text;
  if (const CLI::App* parent = command.get_parent())
    text = fmt::format(".BR {} (1)\n", plain(page_name(*parent)));
  return text;
}

std::string page(const CLI::App& command) {
  const bool all = !command.get_parent();
  std::string title = page_name(command);
  std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return std::toupper(c); });
  std::string text = fmt::format(".TH {} 1 {} \"blockgtq {}\" \"User Commands\"\n", plain(title),
                                 build_date(), BLOCKGTQ_VERSION);
  std::string description = command.get_description();
  if (description.ends_with('.')) description.pop_back();
  text += section("NAME", paragraph(page_name(command) + " - " + description));
  text += section("SYNOPSIS", fmt::format(".B {}\n", plain(usage_of(command))));
  text += section("COMMANDS", commands_text(command));
  text += section("OPTIONS", all_options(command));
  text += section("EXAMPLES", examples_text(command));
  if (all) {
    text += section("ENVIRONMENT",
                    paragraph("Every option has a variable, which its text names. A flag goes before the "
                              "environment, the environment before the file of --config."));
    text += section("EXIT STATUS", codes_text());
  }
  return text + section("SEE ALSO", neighbours(command));
}

void add_pages(const CLI::App& command, std::vector<std::pair<std::string, std::string>>& pages) {
  pages.emplace_back(page_name(command) + ".1", page(command));
  for (const CLI::App* each : commands_of(command)) add_pages(*each, pages);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> manual_pages(const CLI::App& app) {
  std::vector<std::pair<std::string, std::string>> pages;
  add_pages(app, pages);
  return pages;
}

}  // namespace blockgtq
