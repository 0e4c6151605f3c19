#include "base/file.h"
#include "commands.h"
#include "store/stats_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::vector<std::string> inputs;
  bool partial = false;
  OutputOptions output;
};

}  // namespace

void add_merge(CLI::App& app, const GlobalOptions&) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("merge", "Statistics of neighbouring token ranges into one, exact to the last bit");
  command->add_option("stats", o->inputs, "STATS.h5 files, in any order")->required();
  command->add_flag("--partial", o->partial,
                    "Some neighbouring parts of a run only, to be merged with the others later");
  add_output_option(*command, o->output, "Merged statistics (STATS.h5)");
  command->callback([o] {
    OutputFile output(o->output.path, o->output.force);
    std::vector<Stats> parts;
    for (const std::string& path : o->inputs) parts.push_back(read_stats(path));
    const Stats merged = merge(std::move(parts), o->inputs);
    if (!o->partial)
      require_complete(merged, o->output.path,
                       "name the files of all parts, or give --partial to merge some of them first");
    write_stats(output.temporary(), merged);
    output.commit();
  });
}

}  // namespace blockgtq
