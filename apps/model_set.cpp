#include "model_set.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "allocator_options.h"
#include "base/error.h"
#include "evaluation.h"
#include "panel_spec.h"
#include "store/map_file.h"

namespace blockgtq {

void add_model_set_options(CLI::App& command, ModelSetOptions& o) {
  add_run_options(command, o.run, false);
  command.add_option("--panel", o.panel,
                     "PANEL.json in place of -m: its models, each calibrated on its text");
  add_map_options(command, o);
}

void add_map_options(CLI::App& command, ModelSetOptions& o) {
  command.add_option("--map", o.map, "Bit map of calibrate");
  command.add_option("--calibration", o.calibration, "Text to calibrate on, in place of --map");
  command.add_option("--calibration-tokens", o.calibration_tokens, "Tokens of --calibration; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  add_calibrate_from(command, o.calibrate_from);
  add_centres_option(command, o.centres);
}

std::vector<ModelJob> model_jobs(const ModelSetOptions& o) {
  auto usage = [](const char* what) { throw Error(Exit::usage, what); };
  if (o.panel.empty() == o.run.model.empty())
    usage(o.panel.empty() ? "a model is missing: give -m MODEL or --panel PANEL.json"
                          : "--panel and -m exclude each other");
  if (!o.map.empty() && !o.calibration.empty()) usage("--map and --calibration exclude each other");
  if (o.calibrate_from > 0 && o.calibration.empty() && o.panel.empty())
    usage("--calibrate-from: nothing is calibrated: give --calibration TEXT, or the option to calibrate");
  RunOptions calibration = o.run;
  calibration.ids.clear();
  calibration.part.clear();
  calibration.files.clear();
  calibration.tokens = o.calibration_tokens;
  calibration.chunk = RunOptions().chunk;
  calibration.calibrate_from = o.calibrate_from;
  if (!o.calibration.empty()) calibration.files = {o.calibration};
  if (o.panel.empty())
    return {{fs::path(o.run.model).lexically_normal().filename().string(), o.run, calibration, {}}};

  if (!o.map.empty()) usage("--map holds for one model: a panel calibrates each");
  const PanelSpec spec = read_panel_spec(o.panel);
  if (o.calibration.empty()) {
    calibration.files = {spec.calibration.string()};
    calibration.tokens = spec.calibration_tokens;
    calibration.chunk = spec.chunk;
  }
  std::vector<ModelJob> jobs;
  for (const PanelEntry& model : spec.models) {
    ModelJob job{model.name, o.run, calibration, share_spec(spec.allocation)};
    job.evaluation.model = job.calibration.model = model.path.string();
    if (o.run.files.empty() && o.run.ids.empty()) job.evaluation.files = {spec.evaluation.string()};
    jobs.push_back(std::move(job));
  }
  return jobs;
}

namespace {

/// A file beside the one that goes on, to write a map to and read it again.
OutputFile beside(const ResumeFile& resume) {
  return OutputFile(resume.path().string() + ".map", true);
}

/// The stage ends with this map, as the bytes of its file.
void end_with(ResumeFile& resume, const BitMap& map) {
  const OutputFile file = beside(resume);
  write_map(file.temporary(), map);
  const MappedFile bytes(file.temporary());
  resume.end({{"map_bytes", bytes.bytes().size()}}, {{"map", bytes.bytes()}});
}

BitMap map_of(const std::vector<char>& bytes, const ResumeFile& resume) {
  OutputFile file = beside(resume);
  file.write({bytes.data(), bytes.size()});
  return read_map(file.temporary());
}

}  // namespace

std::optional<BitMap> job_map(const ModelJob& job, const ModelSetOptions& o, const AttentionShape& shape,
                              const std::vector<double>& budgets, const GlobalOptions& global,
                              Progress& progress, const Stages& stages) {
  if (!o.map.empty()) {
    BitMap map = read_map(o.map);
    check_same_attention(map.shape, shape);
    return map;
  }
  if (job.calibration.files.empty()) return std::nullopt;
  Session session = open_session(job.calibration, global, progress);
  ResumeFile* resume = stages.begin("calibration", session);
  if (resume && resume->state() && resume->state()->contains("map_bytes")) {
    const auto bytes = resume->array<char>("map", resume->state()->at("map_bytes"));
    resume->end({{"map_bytes", bytes.size()}}, {{"map", bytes}});
    return map_of(bytes, *resume);
  }
  Calibration calibration = collect_calibration(session, progress, o.centres, resume);
  BitMap map =
      make_bit_map(calibration.stats, budgets, job.allocation, o.centres, std::move(calibration.heads));
  if (resume) end_with(*resume, map);
  return map;
}

void for_each_model(const ModelSetOptions& o, Progress& progress,
                    const std::function<void(const ModelJob&)>& body,
                    const std::function<void(const std::vector<ModelFailure>&)>& finish) {
  const std::vector<ModelJob> jobs = model_jobs(o);
  std::vector<ModelFailure> failures;
  for (const ModelJob& job : jobs) {
    try {
      body(job);
    } catch (const ForeignResume&) {
      throw;
    } catch (const Error& e) {
      const bool its_own = e.code == Exit::input || e.code == Exit::nonfinite || e.code == Exit::device;
      if (o.panel.empty() || !its_own) throw;
      progress.warn(fmt::format("{}: {}", job.name, e.what()));
      failures.push_back({job.name, e.what()});
    }
  }
  finish(failures);
  if (!failures.empty())
    throw Error(Exit::defect, fmt::format("{} of {} models failed", failures.size(), jobs.size()));
}

}  // namespace blockgtq
