#include "base/file.h"
#include "commands.h"
#include "completion.h"
#include "config_file.h"
#include "manual.h"

namespace blockgtq {

void add_completion(CLI::App& app, const GlobalOptions&) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "A script that completes commands, options and files");
  command->add_option("shell", *shell, "The shell it is for")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kShells), std::end(kShells))));
  command->callback([shell, &app] { write_stdout(completion_script(app, *shell)); });
}

void add_manual(CLI::App& app, const GlobalOptions&) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("manual", "Manual pages of all commands, for who makes a package");
  command->group("");  // not shown
  command->add_option("folder", *folder, "An existing folder")->required();
  command->callback([folder, &app] {
    name_variables(app);
    for (const auto& [name, text] : manual_pages(app)) write_file(fs::path(*folder) / name, text, true);
  });
}

}  // namespace blockgtq
