#include "command_text.h"

#include <algorithm>

namespace blockgtq {
namespace {

constexpr const char* kLeftOut[] = {"help", "output", "json",  "csv",    "md",
                                    "html", "chart",  "force", "resume", "checkpoint-seconds"};

std::string quoted(const std::string& word) {
  constexpr const char* kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./,:=@%+";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string option_text(const CLI::Option& option) {
  const bool positional = option.get_lnames().empty() && option.get_snames().empty();
  const std::string name = positional                    ? ""
                           : option.get_lnames().empty() ? "-" + option.get_snames()[0]
                                                         : "--" + option.get_lnames()[0];
  if (option.get_expected_min() == 0)  // a flag
    return option.results().at(0) == "false" && !option.get_fnames().empty() ? " --" + option.get_fnames()[0]
                                                                             : " " + name;
  std::string out;
  for (const std::string& value : option.results())
    out += (name.empty() ? " " : " " + name + " ") + quoted(value);
  return out;
}

}  // namespace

std::string command_text(const CLI::App& command) {
  std::string out = command.get_name();
  for (const CLI::App* parent = command.get_parent(); parent; parent = parent->get_parent())
    out = parent->get_name() + " " + out;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_lnames().empty() ? "" : option->get_lnames()[0];
    const bool left_out =
        std::any_of(std::begin(kLeftOut), std::end(kLeftOut), [&](const char* one) { return name == one; });
    if (option->count() > 0 && !left_out) out += option_text(*option);
  }
  return out;
}

}  // namespace blockgtq
