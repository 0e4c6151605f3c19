// --config FILE.toml, as the command line reads it, over a few options.
#include <CLI/CLI.hpp>

#include "base/error.h"
#include "config_file.h"
#include "reader.h"

namespace blockgtq {

void fuzz_toml(std::string_view input) {
  CLI::App app("for its names", "blockgtq");
  int threads = 0;
  bool quiet = false;
  std::vector<std::string> files;
  std::string bits;
  app.add_option("--threads", threads);
  app.add_flag("--quiet", quiet);
  CLI::App* command = app.add_subcommand("calibrate", "");
  command->add_option("-f,--file", files);
  command->add_option("--bits", bits);
  command->callback([] {});
  app.add_subcommand("bench", "")->add_subcommand("decode", "");
  add_environment_and_config(app);
  try {
    app.parse("--config " + scratch_file("options.toml", input).string() + " calibrate");
  } catch (const CLI::ParseError& e) {
    throw Error(Exit::usage, e.what());  // as main() reports it
  }
}

}  // namespace blockgtq
