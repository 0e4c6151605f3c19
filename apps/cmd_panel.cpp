#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/presence.h"
#include "base/sha256.h"
#include "commands.h"
#include "device.h"
#include "evaluation.h"
#include "model/model_shape.h"
#include "panel_spec.h"
#include "panel_state.h"
#include "quant/codebook.h"
#include "report/map_view.h"
#include "report/panel_report.h"
#include "report/panel_view.h"
#include "report/risks.h"
#include "report/table.h"
#include "resume_options.h"
#include "serve/cache_spec.h"

namespace blockgtq {
namespace {

constexpr int kStateForm = 2;  // of what a model's result holds: one that holds less is computed anew

struct Options {
  std::string spec, bits, methods, codebook, resume = "auto";
  MetricOptions metrics;
  AllocatorOptions allocator;  // over the file's
  RunOptions run;              // only where it computes, and from which position on it calibrates
  OutputOptions output;
};

Json architecture(const Config& config) {
  return {{"model_type", config.model_type},
          {"layers", config.n_layers},
          {"heads", config.n_heads},
          {"kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"rotary_dim", config.rope.rotary_dim},
          {"pairing", name(config.rope.pairing)},
          {"rope", fmt::format("{} theta {:g}", name(config.rope.type), config.rope.theta)}};
}

/// Runs the panel, one model after the other; what is done is on disk before the next begins.
class Panel {
 public:
  Panel(const Options& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o),
        global_(global),
        spec_(read_panel_spec(o.spec, o.bits, o.methods)),
        allocator_(given_over(command, o.allocator, spec_.allocation)),
        share_(share_spec(allocator_)),
        out_(o.output.path),
        resume_(resume_mode(o.resume)),
        progress_(global.make_progress()) {}

  void run() {
    chosen_metrics(o_.metrics);  // a mistake ends here, not model by model
    prepare_folder();
    OutputFile json(out_ / "panel.json", true), csv(out_ / "panel.csv", true), text(out_ / "panel.md", true),
        page(out_ / "index.html", true);
    Json models = run_models();
    const auto failed =
        std::count_if(models.begin(), models.end(), [](const Json& m) { return m.at("status") != "ok"; });
    Json panel = document(std::move(models));
    json.write(dump_json(panel));
    csv.write(panel_csv(panel));
    text.write(panel_markdown(panel));
    page.write(panel_html(panel));
    OutputFile* const files[] = {&csv, &text, &page, &json};
    commit_all(files);
    write_stdout(panel_markdown(panel) + fmt::format("\nreport: {}\n", (out_ / "index.html").string()));
    if (failed)
      throw Error(Exit::defect, fmt::format("{} of {} models failed", failed, spec_.models.size()),
                  "the report names each reason; run the command again to retry only these");
  }

 private:
  /// On several GPUs the models are spread over them, each taken by whichever is free; the results keep their
  /// order and do not depend on how many there are.
  Json run_models() {
    std::vector<Json> results(spec_.models.size());
    const int n_workers = o_.run.device == "auto" || o_.run.device == "cuda"
                              ? std::clamp(visible_gpus(), 1, int(results.size()))
                              : 1;
    std::atomic<size_t> next = 0;
    std::vector<std::exception_ptr> stopped(n_workers);
    auto work = [&](int worker) {
      RunOptions run = o_.run;
      if (n_workers > 1) run.device = fmt::format("cuda:{}", worker);
      try {
        for (size_t i = next++; i < results.size(); i = next++)
          results[i] = run_or_reuse(spec_.models[i], run);
      } catch (...) {
        stopped[worker] = std::current_exception();
        next = results.size();
      }
    };
    std::vector<std::thread> others;
    for (int w = 1; w < n_workers; ++w) others.emplace_back(work, w);
    work(0);
    for (std::thread& t : others) t.join();
    for (const std::exception_ptr& e : stopped)
      if (e) std::rethrow_exception(e);
    return results;
  }

  void prepare_folder() const {
    std::error_code error;
    fs::create_directories(out_ / "models", error);
    if (error) fail_output("{}: cannot create the folder: {}", out_.string(), error.message());
    if (resume_ == Resume::never && is_there(out_ / "panel.json") && !o_.output.force)
      throw Error(Exit::output, fmt::format("{}: exists", (out_ / "panel.json").string()),
                  "--force replaces it");
  }

  RunOptions run_options(const PanelEntry& model, RunOptions run, bool calibrating) const {
    run.model = model.path.string();
    run.files = {(calibrating ? spec_.calibration : spec_.evaluation).string()};
    run.tokens = calibrating ? spec_.calibration_tokens : spec_.evaluation_tokens;
    run.chunk = spec_.chunk;
    if (!calibrating) run.calibrate_from = 0;
    return run;
  }

  /// Of everything that can change a result.
  std::string signature(const Session& calibration, const Session& evaluation) const {
    std::string all = fmt::format("{} {} {} {} {}", kStateForm, BLOCKGTQ_VERSION, fmt::join(spec_.bits, ","),
                                  fmt::join(spec_.methods, ","), o_.codebook) +
                      (chosen_metrics(o_.metrics).empty() ? "" : metric_arguments()) +
                      difference(allocator_, {});
    for (const Session* session : {&calibration, &evaluation})
      all +=
          fmt::format("\n{} {} {}", session->signature(), session->device,
                      sha256_hex(std::string_view(reinterpret_cast<const char*>(session->corpus.ids.data()),
                                                  session->corpus.ids.size() * sizeof(int32_t))));
    return sha256_hex(all);
  }

  /// A result of an earlier run counts when it was made from the same inputs and options and is as it was.
  Json run_or_reuse(const PanelEntry& model, const RunOptions& run) {
    const PanelState state(out_ / "models", model.name);
    try {
      Session calibration = open_session(run_options(model, run, true), global_, *progress_);
      Session evaluation = open_session(run_options(model, run, false), global_, *progress_);
      std::string damage;
      if (resume_ != Resume::never && state.exists())
        if (std::optional<Json> earlier = state.load(signature(calibration, evaluation), damage))
          return std::move(*earlier);
      if (resume_ == Resume::must) {
        if (!damage.empty()) fail_input("{}", damage);
        fail_input("{}: no result of these inputs to resume from", state.path().string());
      }
      if (!damage.empty()) progress_->warn(damage + ": computed anew");
      return run_model(model, state, calibration, evaluation);
    } catch (const Error& e) {
      if (e.code == Exit::interrupted || e.code == Exit::stopped || e.code == Exit::output) throw;
      progress_->warn(fmt::format("{}: {}", model.name, e.what()));
      return {{"name", model.name}, {"status", "failed"}, {"error", e.what()}};
    }
  }

  Json run_model(const PanelEntry& model, const PanelState& state, Session& calibration,
                 Session& evaluation) {
    check_blocks(share_.allocator, calibration.shape.layout.n_blocks());
    PanelState::Writer files(state);
    Calibration calibrated = collect_calibration(calibration, *progress_, kCentres, nullptr);
    const BitMap map =
        make_bit_map(calibrated.stats, spec_.bits, share_, kCentres, std::move(calibrated.heads));
    EvalRequest request;
    request.methods = spec_.methods;
    request.map = &map;
    request.codebook = parse_codebook(o_.codebook);
    EvalSpec eval = make_eval_spec(request, evaluation.shape);
    set_metrics(eval, o_.metrics, attention_shape(evaluation.model->config(), evaluation.chunk),
                evaluation.chunk, *progress_);
    const std::vector<LayerResult> layers = evaluate_session(eval, evaluation, *progress_, nullptr);
    Json result = {{"name", model.name},
                   {"status", "ok"},
                   {"architecture", architecture(evaluation.model->config())},
                   {"bit_shares", bit_shares(map)},
                   {"map", map_view(map)},
                   {"norms", layer_norms(calibrated.stats)},
                   {"eval", eval_json(eval, layers, evaluation.provenance(), evaluation.n_tokens(),
                                      evaluation.chunk, evaluation.device)},
                   {"signature", signature(calibration, evaluation)}};
    files.save(result, map);
    return result;
  }

  /// What of --metrics, --sink and --recent is not the default.
  std::string metric_arguments() const {
    const MetricOptions& o = o_.metrics;
    std::string text;
    if (o.metrics != "mae") text += " --metrics " + o.metrics;
    if (o.exact.sink > 0) text += fmt::format(" --sink {}", o.exact.sink);
    if (o.exact.recent > 0) text += fmt::format(" --recent {}", o.exact.recent);
    return text;
  }

  Json document(Json models) const {
    Json panel;
    panel["schema"] = "blockgtq.panel/1";
    panel["version"] = BLOCKGTQ_VERSION;
    std::string command = "blockgtq panel " + fs::path(o_.spec).filename().string();
    if (!o_.bits.empty()) command += " --bits " + o_.bits;
    if (!o_.methods.empty()) command += " --methods " + o_.methods;
    if (!o_.codebook.empty()) command += " --codebook " + o_.codebook;
    command += metric_arguments();
    if (o_.run.calibrate_from > 0) command += fmt::format(" --calibrate-from {}", o_.run.calibrate_from);
    panel["command"] = command + difference(allocator_, spec_.allocation) + " -o DIR";
    panel["provenance"] = {{"blockgtq", BLOCKGTQ_VERSION},
                           {"calibration", fmt::format("{}, {} tokens", spec_.calibration.filename().string(),
                                                       spec_.calibration_tokens)},
                           {"evaluation", fmt::format("{}, {} tokens", spec_.evaluation.filename().string(),
                                                      spec_.evaluation_tokens)},
                           {"chunk", fmt::format("{}", spec_.chunk)}};
    if (o_.run.calibrate_from > 0)
      panel["provenance"]["calibrate_from"] = fmt::format("{}", o_.run.calibrate_from);
    if (const std::string text = exact_text(o_.metrics.exact); !text.empty())
      panel["provenance"]["exact"] = text;
    if (const std::string text = difference(allocator_, {}); !text.empty())
      panel["provenance"]["allocation"] = text.substr(1);
    for (const Json& model : models)
      if (model.at("status") == "ok") {
        panel["provenance"]["device"] = model.at("eval").at("device");
        panel["provenance"]["dtype"] = model.at("eval").at("provenance").at("dtype");
        break;
      }
    panel["models"] = std::move(models);
    panel["summary"] = panel_summary(panel);
    return panel;
  }

  const Options& o_;
  const GlobalOptions& global_;
  PanelSpec spec_;
  AllocatorOptions allocator_;
  ShareSpec share_;
  fs::path out_;
  Resume resume_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace

void add_panel(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("panel", "calibrate and eval-logits over many models, one report");
  command->add_option("spec", o->spec, "PANEL.json: models, texts, budgets (data/panel.json is one)")
      ->required();
  command->add_option("--bits", o->bits, "Budgets in place of the file's");
  command->add_option("--methods", o->methods,
                      "Methods in place of the file's: " + method_list(key_methods()));
  add_codebook_option(*command, o->codebook);
  add_metric_options(*command, o->metrics);
  add_calibrate_from(*command, o->run.calibrate_from);
  add_allocator_options(*command, o->allocator);
  add_device_options(*command, o->run);
  add_resume_option(*command, o->resume, "Reuse results of the same inputs in the folder: auto, never, must");
  add_output_option(*command, o->output,
                    "Folder for panel.json, panel.csv, panel.md, index.html and models/");
  command->callback([o, command, &global] { Panel(*o, *command, global).run(); });
}

}  // namespace blockgtq
