#include "base/file.h"
#include "commands.h"
#include "quant/bit_map.h"
#include "store/map_file.h"
#include "store/stats_file.h"

namespace blockgtq {
namespace {

struct Options {
  std::string stats, bits = "3";
  int min_bits = 1, max_bits = 8;
  OutputOptions output;
};

}  // namespace

void add_allocate(CLI::App& app, const GlobalOptions&) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("allocate", "Statistics to a bit map: the greedy allocator");
  command->add_option("stats", o->stats, "STATS.h5 of energy or merge")->required();
  add_allocator_options(*command, o->bits, o->min_bits, o->max_bits);
  add_output_option(*command, o->output, "Bit map (MAP.h5)");
  command->callback([o] {
    const std::vector<double> budgets = parse_bits(o->bits);
    OutputFile output(o->output.path, o->output.force);
    write_map(output.temporary(), make_bit_map(read_stats(o->stats), budgets, o->min_bits, o->max_bits));
    output.commit();
  });
}

}  // namespace blockgtq
