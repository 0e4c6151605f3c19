#include "base/file.h"
#include "commands.h"
#include "quant/bit_map.h"
#include "session.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  OutputOptions output;
  std::string bits = "3";
  int min_bits = 1, max_bits = 8;
};

}  // namespace

void add_calibrate(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "calibrate", "Model and text to a bit map: dump, energy and allocate in one streamed pass");
  add_run_options(*command, o->run, true);
  add_output_option(*command, o->output, "Bit map (MAP.h5)");
  add_allocator_options(*command, o->bits, o->min_bits, o->max_bits);
  command->callback([o, &global] {
    const std::vector<double> budgets = parse_bits(o->bits);
    OutputFile output(o->output.path, o->output.force);
    auto progress = global.make_progress();
    Session session = open_session(o->run, global, *progress);
    const Stats stats = collect_stats(session, *progress);
    write_map(output.temporary(), make_bit_map(stats, budgets, o->min_bits, o->max_bits));
    output.commit();
  });
}

}  // namespace blockgtq
