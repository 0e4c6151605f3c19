#include <optional>

#include "allocation.h"
#include "base/file.h"
#include "cache_spec.h"
#include "choose.h"
#include "commands.h"
#include "map_choice.h"
#include "resume_options.h"
#include "session.h"
#include "stats_resume.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  OutputOptions output;
  AllocationOptions allocation;
  MapChoiceOptions choice;
  ResumeOptions resume;
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
  add_map_choice_options(*command, o->choice);
  add_resume_options(*command, o->resume);
  command->callback([o, command, &global] {
    check_allocation(o->allocation);
    if (o->choice.choose) check_map_choice(o->run, o->allocation);
    OutputFile file(o->output.path, o->output.force);
    ResultFiles files(o->allocation.json, o->output.force);
    auto progress = global.make_progress();
    Session session = open_session(o->run, global, *progress);
    check_allocation(o->allocation, session.shape);
    std::optional<Session> text;  // a text that is too short is told before the model runs
    if (o->choice.choose) {
      RunOptions behind = text_behind(o->run, o->choice.tokens, o->choice.chunk);
      if (o->choice.exact.recent > 0) behind.without_kernel = "recent positions";
      text = open_session(behind, global, *progress);
    }
    const std::unique_ptr<ResumeFile> resume = open_resume(o->output.path, o->resume, global, *progress);
    const Stages stages{resume.get(), command};
    Calibration calibration =
        collect_calibration(session, *progress, o->allocation.centres, stages.begin("statistics", session));
    if (text) end_stats(*resume, calibration.stats);
    const Stats& stats = calibration.stats;
    BitMap map = allocate(stats, o->allocation, std::move(calibration.heads));
    if (text)
      map.choices =
          choose_methods(map, *text, o->choice.exact, codebook_of(CacheOptions(), o->run), *progress, stages);
    write_and_report(map, stats, o->allocation, file, files, global);
    resume->remove();
  });
}

}  // namespace blockgtq
