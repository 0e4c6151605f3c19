#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "activations.h"
#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"
#include "command_text.h"
#include "commands.h"
#include "eval_resume.h"
#include "evaluation.h"
#include "model/model_shape.h"
#include "quant/bit_split.h"
#include "quant/methods.h"
#include "report/panel_report.h"
#include "report/table.h"
#include "result_files.h"
#include "resume_options.h"
#include "serve/cache_spec.h"
#include "store/map_file.h"

namespace blockgtq {
namespace {

struct Options {
  RunOptions run;
  MetricOptions metrics;
  std::string activations, map, bits, methods, codebook, theta = "model", json, csv, markdown, html;
  int window = 1024, offsets = 50;
  bool force = false;
  ResumeOptions resume;
};

std::vector<LayerResult> evaluate_dump(const EvalSpec& spec, const Activations& reader, Progress& progress,
                                       ResumeFile* resume) {
  std::vector<LayerResult> layers;
  const ActsHeader& header = reader.header();
  const int first = resume ? load_results(*resume, layers, 0).layer : 0;
  progress.begin("eval-logits", header.shape.n_layers - first);
  for (int l = first; l < header.shape.n_layers; ++l) {
    if (resume && resume->due()) save_results(*resume, layers, l, {});
    check_stop();
    const ActsReader::Layer acts = reader.read_layer(l);
    layers.push_back(evaluate_layer(spec, l, acts.q.data(), acts.k.data(), header.n_tokens,
                                    acts.v.empty() ? nullptr : acts.v.data()));
    progress.step(fmt::format("layer {}", l));
  }
  progress.end();
  return layers;
}

std::string cell(double value) {
  return std::isnan(value) ? "" : fmt::format("{:.4g}", value);
}

std::string column(const MethodResult& r) {
  return fmt::format("{} {}b", r.method, bits_text(r.bits));
}

/// layer, then one MAE column per method and budget; the summary as last rows.
Table result_table(const std::vector<LayerResult>& layers) {
  std::vector<std::string> header = {"layer"};
  for (const MethodResult& r : layers.at(0).results) header.push_back(column(r));
  Table table(header);
  for (const LayerResult& layer : layers) {
    std::vector<std::string> row = {std::to_string(layer.layer)};
    for (const MethodResult& r : layer.results) row.push_back(cell(r.mae));
    table.row(row);
  }
  return table;
}

/// A column's name, with the positions that are exact in it.
std::string with_exact(const std::string& column, const ExactWindow& exact) {
  return exact == ExactWindow{} ? column : column + ", " + exact_text(exact);
}
std::string metric_column(Metric metric, const ExactWindow& exact) {
  return needs_attention(metric) ? with_exact(name(metric), exact) : name(metric);
}

Table summary_table(const std::vector<LayerResult>& layers, const ExactWindow& exact) {
  Table table({"bits", "method", "MAE", "against tq-mse", "layers won", with_exact("effective bits", exact),
               with_exact("K bytes/token", exact)});
  for (const SummaryRow& s : summarize(layers))
    table.row({bits_text(s.bits), s.method, cell(s.mae),
               std::isnan(s.ratio_to_tq_mse) ? "" : fmt::format("{:+.1f} %", 100 * (s.ratio_to_tq_mse - 1)),
               s.method == "tq-mse" ? "" : fmt::format("{} of {}", s.wins, s.layers), cell(s.effective_bits),
               fmt::format("{:g}", s.bytes_per_token)});
  return table;
}

/// A metric of every layer, one column per method and budget.
Table metric_table(const std::vector<LayerResult>& layers, size_t metric, const ExactWindow& exact) {
  std::vector<std::string> header = {
      fmt::format("{}, layer", metric_column(layers.at(0).results[0].metrics[metric].metric, exact))};
  for (const MethodResult& r : layers[0].results) header.push_back(column(r));
  Table table(header);
  for (const LayerResult& layer : layers) {
    std::vector<std::string> row = {std::to_string(layer.layer)};
    for (const MethodResult& r : layer.results) row.push_back(cell(r.metrics[metric].value));
    table.row(row);
  }
  return table;
}

/// Every metric's mean over layers with its interval.
Table metric_summary(const std::vector<LayerResult>& layers, const ExactWindow& exact) {
  const std::vector<SummaryRow> rows = summarize(layers);
  std::vector<std::string> header = {"bits", "method"};
  for (const MetricValue& m : rows.at(0).metrics)
    header.push_back(fmt::format("{} (95 %)", metric_column(m.metric, exact)));
  Table table(header);
  for (const SummaryRow& s : rows) {
    std::vector<std::string> row = {bits_text(s.bits), s.method};
    for (const MetricValue& m : s.metrics)
      row.push_back(std::isnan(m.low)
                        ? cell(m.value)
                        : fmt::format("{} ({} .. {})", cell(m.value), cell(m.low), cell(m.high)));
    table.row(row);
  }
  return table;
}

/// What a page shows of the metrics beside the error; empty without any.
std::string metric_parts(const std::vector<LayerResult>& layers, const ExactWindow& exact) {
  const std::vector<MetricValue>& metrics = layers.at(0).results.at(0).metrics;
  if (metrics.empty()) return "";
  std::string out =
      "<h3>Metrics with 95 % intervals over chunks</h3>\n" + metric_summary(layers, exact).html("Metrics");
  for (size_t m = 1; m < metrics.size(); ++m)
    out += fmt::format("<details><summary>Every layer: {}</summary>{}</details>\n",
                       metric_column(metrics[m].metric, exact),
                       metric_table(layers, m, exact).html(name(metrics[m].metric)));
  return out;
}

/// The per-layer table of --csv: errors, then every other metric and all intervals.
Table csv_table(const std::vector<LayerResult>& layers, const ExactWindow& exact) {
  std::vector<std::string> header = {"layer"};
  for (const MethodResult& r : layers.at(0).results) header.push_back(column(r));
  for (const MethodResult& r : layers[0].results)
    for (const MetricValue& m : r.metrics) {
      const std::string title = fmt::format("{} {}", column(r), metric_column(m.metric, exact));
      if (m.metric != Metric::mae) header.push_back(title);
      for (const char* bound : {"low", "high"}) header.push_back(fmt::format("{} {}", title, bound));
    }
  Table table(header);
  for (const LayerResult& layer : layers) {
    std::vector<std::string> row = {std::to_string(layer.layer)};
    for (const MethodResult& r : layer.results) row.push_back(cell(r.mae));
    for (const MethodResult& r : layer.results)
      for (const MetricValue& m : r.metrics) {
        if (m.metric != Metric::mae) row.push_back(cell(m.value));
        for (const double bound : {m.low, m.high}) row.push_back(cell(bound));
      }
    table.row(row);
  }
  return table;
}

std::string value(const Provenance& provenance, const std::string& key) {
  for (const auto& [k, v] : provenance)
    if (k == key) return v;
  return "";
}

std::optional<AttentionShape> dumped_attention(const ActsHeader& header) {
  if (value(header.provenance, "compat") == "reference") return std::nullopt;
  return header.shape;
}

/// What activations from elsewhere do not say is not compared.
void warn_about_origin(const BitMap& map, const Provenance& run, Progress& progress) {
  const std::string weights = value(map.provenance, "weights"), its = value(run, "weights");
  if (!weights.empty() && !its.empty() && weights != its)
    progress.warn("the map was calibrated on other weights than these");
  const std::string corpus = value(map.provenance, "corpus_sha256");
  if (!corpus.empty() && corpus == value(run, "corpus_sha256"))
    progress.warn("scored on the text the map was calibrated on");
}

/// Everything for a reader, each table as `form` writes it.
std::string report(const std::vector<LayerResult>& layers, const ExactWindow& exact,
                   std::string (Table::*form)() const) {
  std::vector<Table> tables = {result_table(layers), summary_table(layers, exact)};
  if (const size_t n = layers.at(0).results.at(0).metrics.size()) {
    for (size_t m = 1; m < n; ++m) tables.insert(tables.end() - 1, metric_table(layers, m, exact));
    tables.push_back(metric_summary(layers, exact));
  }
  std::string text;
  for (const Table& table : tables) text += (text.empty() ? "" : "\n") + (table.*form)();
  return text;
}

void run(const Options& o, const CLI::App& command, const GlobalOptions& global) {
  if (o.activations.empty() == o.run.model.empty())
    throw Error(Exit::usage, o.activations.empty()
                                 ? "an input is missing: give -m MODEL and -f TEXT, or --activations ACTS.h5"
                                 : "--activations and -m exclude each other");
  ResultFiles files(o.json, o.csv, o.markdown, o.force, o.html);

  std::optional<BitMap> map;
  if (!o.map.empty()) map = read_map(o.map);
  EvalRequest request;
  request.methods = parse_methods(!o.methods.empty() ? o.methods : map ? "tq-mse,block-gtq" : "tq-mse");
  if (!o.bits.empty() || !map) request.bits = parse_bits(o.bits.empty() ? "3" : o.bits);
  chosen_metrics(o.metrics);  // a mistake ends here, not behind the model
  request.map = map ? &*map : nullptr;
  request.theta = o.theta;
  request.codebook = parse_codebook(o.codebook.empty() && o.run.reference() ? "reference" : o.codebook);
  request.window = o.window;
  request.offsets = o.offsets;

  auto progress = global.make_progress();
  const std::unique_ptr<ResumeFile> resume = open_resume(files.first(), o.resume, global, *progress);
  std::vector<LayerResult> layers;
  ExactWindow exact;
  Json json;
  if (!o.activations.empty()) {
    const std::unique_ptr<Activations> reader = open_activations(o.activations);
    const ActsHeader& header = reader->header();
    EvalSpec spec = make_eval_spec(request, header.shape);
    set_metrics(spec, o.metrics, dumped_attention(header), header.chunk, *progress);
    exact = spec.exact;
    if (map) warn_about_origin(*map, header.provenance, *progress);
    if (resume) resume->begin("evaluation", [&] { return option_fields(command); });
    layers = evaluate_dump(spec, *reader, *progress, resume.get());
    warn_clipped(layers, *progress);
    json = eval_json(spec, layers, header.provenance, header.n_tokens, header.chunk, "cpu");
  } else {
    Session session = open_session(o.run, global, *progress);
    EvalSpec spec = make_eval_spec(request, session.shape);
    set_metrics(spec, o.metrics, attention_shape(session.model->config(), session.chunk), session.chunk,
                *progress);
    exact = spec.exact;
    layers = evaluate_session(spec, session, *progress,
                              Stages{resume.get(), &command}.begin("evaluation", session));
    const Provenance provenance = session.provenance();
    if (map) warn_about_origin(*map, provenance, *progress);
    json = eval_json(spec, layers, provenance, session.n_tokens(), session.chunk, session.device);
  }
  files.write(json, csv_table(layers, exact).csv(), report(layers, exact, &Table::markdown),
              report(layers, exact, &Table::text), [&] {
                return eval_html({json, map ? &*map : nullptr, metric_parts(layers, exact),
                                  command_text(command), BLOCKGTQ_VERSION});
              });
  if (resume) resume->remove();
}

}  // namespace

void add_eval_logits(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval-logits", "Per-layer logit error of every method asked for");
  add_run_options(*command, o->run, false);
  command->add_option("--activations", o->activations,
                      "ACTS.h5 of dump, or safetensors, in place of -m and -f");
  command->add_option("--map", o->map,
                      "Bit map of calibrate (methods that use what calibration measured need it)");
  command->add_option("--bits", o->bits, "Budgets; with --map, default all that it holds, else 3");
  command->add_option("--methods", o->methods,
                      "Methods, comma-separated: " + method_list(key_methods()) +
                          "; default: tq-mse, and block-gtq with --map");
  add_codebook_option(*command, o->codebook);
  add_metric_options(*command, o->metrics);
  command
      ->add_option("--theta", o->theta,
                   "Frequencies of the metric: the model's, or raw (without llama3 or yarn scaling)")
      ->check(CLI::IsMember({"model", "raw"}))
      ->capture_default_str();
  command->add_option("--window", o->window, "Largest offset in tokens")
      ->check(in_range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--offsets", o->offsets, "Offsets from -window to window")
      ->check(in_range(2, 4096))
      ->capture_default_str();
  command->add_option("--json", o->json, "Results as JSON; - for standard output");
  command->add_option("--csv", o->csv, "Per-layer table as CSV; - for standard output");
  command->add_option("--md", o->markdown, "Tables as Markdown; - for standard output");
  add_html_option(*command, o->html);
  command->add_flag("--force", o->force, "Replace existing outputs");
  add_resume_options(*command, o->resume);
  command->callback([o, command, &global] { run(*o, *command, global); });
}

}  // namespace blockgtq
