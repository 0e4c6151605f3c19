#include <fmt/format.h>

#include "allocation.h"
#include "base/file.h"
#include "commands.h"
#include "store/stats_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string stats;
  AllocationOptions allocation;
  OutputOptions output;
};

}  // namespace

void add_allocate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("allocate", "Statistics to a bit map, and what it costs");
  command->add_option("stats", o->stats, "STATS.h5 of energy or merge")->required();
  add_allocation_options(*command, o->allocation);
  add_output_option(*command, o->output, "Bit map (MAP.h5)");
  command->callback([o, &global] {
    check_allocation(o->allocation);
    OutputFile file(o->output.path, o->output.force);
    const Stats stats = read_stats(o->stats);
    require_complete(stats, o->stats, "merge it with the other parts of the run first");
    if (stats.run_chunks == 0)
      global.make_progress()->warn(
          fmt::format("{}: of an older version, which does not say whether chunks behind {} are missing",
                      o->stats, stats.n_chunks() - 1));
    ResultFiles files(o->allocation.json, o->output.force);
    write_and_report(allocate(stats, o->allocation), stats, o->allocation, file, files, global);
  });
}

}  // namespace blockgtq
