#include "allocation.h"
#include "base/file.h"
#include "commands.h"
#include "session.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  OutputOptions output;
  AllocationOptions allocation;
};

}  // namespace

void add_calibrate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Model and text to a bit map: dump, energy and allocate in one streamed pass");
  add_run_options(*command, o->run, true);
  add_calibrate_from(*command, o->run.calibrate_from);
  add_output_option(*command, o->output, "Bit map (MAP.h5)");
  add_allocation_options(*command, o->allocation);
  command->callback([o, &global] {
    check_allocation(o->allocation);
    OutputFile file(o->output.path, o->output.force);
    ResultFiles files(o->allocation.json, o->output.force);
    auto progress = global.make_progress();
    Session session = open_session(o->run, global, *progress);
    check_allocation(o->allocation, session.shape);
    const Stats stats = collect_stats(session, *progress);
    allocate_and_report(stats, o->allocation, file, files, global);
  });
}

}  // namespace blockgtq
