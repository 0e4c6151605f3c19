#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "cache_run.h"
#include "choose.h"
#include "command_text.h"
#include "commands.h"
#include "gate.h"
#include "model_set.h"
#include "quality_chart.h"
#include "quality_page.h"
#include "quality_report.h"
#include "report/map_view.h"
#include "result_files.h"
#include "serve/packed_specs.h"

namespace blockgtq {
namespace {

constexpr const char* kGateMetrics = "kl, kl99, ratio or top";

/// What a gate is about: the mean KL, its 99 % quantile, perplexity over the exact one's, the share of equal
/// first choices.
double gate_value(const Gate& gate, const Quality& q) {
  if (gate.metric() == "kl") return q.kl_mean;
  if (gate.metric() == "kl99") return q.kl_p99;
  return gate.metric() == "ratio" ? std::exp(q.log_ratio) : q.same_top;
}

Gate quality_gate(const std::string& text) {
  const Gate gate(text, kGateMetrics);
  for (const char* known : {"kl", "kl99", "ratio", "top"})
    if (gate.metric() == known) return gate;
  throw Error(Exit::usage,
              fmt::format("--fail-if: '{}' is not {}, then > or <, then a number", text, kGateMetrics));
}

struct Options {
  ModelSetOptions set;
  CacheOptions caches;
  std::string bits_kv, choose, json, csv, markdown, html, chart;
  std::vector<std::string> gates;
  bool pages = false, force = false;
  ResumeOptions resume;
};

class Perplexity {
 public:
  Perplexity(const Options& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o),
        command_(command),
        global_(global),
        progress_(global.make_progress()),
        codebook_(codebook_of(o.caches, o.set.run)) {
    if (!o.bits_kv.empty())
      read_split();
    else if (!exact_alone())
      specs_ = cache_specs(o.caches);
    if (!o.choose.empty()) choose_specs(o.choose, specs_);
    if (const std::string option = choosing(); !option.empty()) {
      if (o.set.panel.empty() && o.set.calibration.empty())
        throw Error(Exit::usage, option + " measures on the calibration text: give --calibration TEXT");
      if (o.set.calibration_tokens == 0)
        throw Error(Exit::usage, option + " needs tokens behind those of --calibration-tokens");
    }
    if (o.pages && !choosing().empty())
      throw Error(Exit::usage, "--pages excludes " + choosing() + ", which measures caches by method");
    for (const std::string& text : o.gates) gates_.push_back(quality_gate(text));
    check_chart();
  }

  void run() {
    ResultFiles files(o_.json, o_.csv, o_.markdown, o_.force, o_.html);
    std::optional<OutputFile> picture;
    if (!o_.chart.empty()) files.include(picture.emplace(o_.chart, o_.force));
    resume_ = open_resume(files.first(), o_.resume, global_, *progress_);
    for_each_model(
        o_.set, *progress_, [&](const ModelJob& job) { models_.push_back(run_model(job)); },
        [&](const std::vector<ModelFailure>& failures) {
          if (picture) picture->write(chart());
          files.write(quality_json(models_, failures), quality_rows(models_).csv(), report(&Table::markdown),
                      report(&Table::text), [&] {
                        return quality_html(models_, failures, !choosing().empty(), command_text(command_));
                      });
        });
    if (resume_) resume_->remove();
    check_gates();
  }

 private:
  Stages stages() const { return {resume_.get(), &command_}; }

  /// A model and a text, and nothing about a quantized cache.
  bool exact_alone() const {
    const CacheOptions& c = o_.caches;
    const ModelSetOptions& set = o_.set;
    return c.k_methods.empty() && c.v_methods.empty() && c.pairs.empty() && c.bits_k.empty() &&
           c.bits_v.empty() && c.exact == ExactWindow{} && o_.choose.empty() && o_.gates.empty() &&
           set.map.empty() && set.calibration.empty() && set.panel.empty();
  }

  void check_chart() const {
    if (o_.chart.empty()) return;
    if (exact_alone()) throw Error(Exit::usage, "--chart: no cache to draw: give --k-method or --v-method");
    if (!choosing().empty())
      throw Error(Exit::usage,
                  "--chart excludes " + choosing() + ", which takes other caches for every model");
  }

  /// What of --choose and --bits-kv was given.
  std::string choosing() const {
    return !o_.choose.empty() ? "--choose" : !o_.bits_kv.empty() ? "--bits-kv" : "";
  }

  void read_split() {
    const CacheOptions& c = o_.caches;
    if (!(c.pairs.empty() && c.bits_k.empty() && c.bits_v.empty() && o_.choose.empty()))
      throw Error(Exit::usage, "--bits-kv excludes --pairs, --bits-k, --bits-v and --choose");
    if (c.k_methods.empty() || c.v_methods.empty())
      throw Error(Exit::usage,
                  "--bits-kv splits bits between keys and values: give --k-method and --v-method");
    averages_ = parse_bits(o_.bits_kv, "--bits-kv");
    k_methods_ = parse_methods(c.k_methods, key_methods(), "--k-method");
    v_methods_ = parse_methods(c.v_methods, value_methods(), "--v-method");
  }

  /// Nothing to choose: empty.
  std::vector<ChooseSpec> choose_of_model(const ModelJob& job, const AttentionShape& shape,
                                          const std::vector<CacheSpec>& specs) const {
    if (!o_.choose.empty()) return choose_specs(o_.choose, specs);
    if (o_.bits_kv.empty()) return {};
    if (!shape.v_dim)
      progress_->warn(job.name + ": caches a latent, not values per head: all bits are the keys'");
    return split_specs(averages_, k_methods_, v_methods_, codes_of(o_.caches), o_.caches.exact, shape);
  }

  ModelQuality run_model(const ModelJob& job) {
    const Session session = open_session(job.evaluation, global_, *progress_);
    ModelQuality model;
    model.name = job.name;
    model.codebook = codebook_;
    model.pages = o_.pages;
    model.n_tokens = session.n_tokens();
    model.chunk = session.chunk;
    model.device = session.device;
    std::vector<CacheSpec> specs =
        specs_of_model(specs_, session.shape, job.name, !o_.set.panel.empty(), *progress_);
    const std::vector<ChooseSpec> choose = choose_of_model(job, session.shape, specs);
    const std::optional<BitMap> map =
        job_map(job, o_.set, session.shape, choose.empty() ? budgets_of(specs) : choose_budgets(choose),
                global_, *progress_, stages());
    if (choose.empty()) {
      specs = resolve_chosen(specs, map ? &*map : nullptr, *progress_);
    } else {
      model.choices = choose_on_calibration(job, choose, *map);
      specs.clear();
      for (const Choice& choice : model.choices)
        for (const CacheSpec& spec : {choice.reference, choice.chosen})
          if (std::find(specs.begin(), specs.end(), spec) == specs.end()) specs.push_back(spec);
    }
    std::vector<QuantizedCache> caches;
    for (const CacheSpec& spec : specs) {
      caches.push_back(make_cache(spec, session.shape, map ? &*map : nullptr, codebook_));
      if (o_.pages) caches.back() = as_in_pages(caches.back(), describe(spec));
    }
    const QualityRun run =
        measure_quality(session, caches, job.name, *progress_, stages().begin("quality", session));
    model.exact = run.exact;
    for (size_t c = 0; c < specs.size(); ++c)
      model.caches.push_back({specs[c], caches[c].key_bytes(session.chunk),
                              caches[c].value_bytes(session.chunk), run.caches[c]});
    if (map && !o_.html.empty()) model.map = {{"bit_shares", bit_shares(*map)}, {"heads", map_view(*map)}};
    model.provenance = provenance_from(job.calibration.calibrate_from, session.provenance());
    if (const std::string text = describe(job.allocation); !text.empty())
      model.provenance.emplace_back("allocator", text);
    return model;
  }

  std::vector<Choice> choose_on_calibration(const ModelJob& job, const std::vector<ChooseSpec>& choose,
                                            const BitMap& map) const {
    const Session text = open_session(
        text_behind(job.calibration, job.calibration.tokens, job.evaluation.chunk), global_, *progress_);
    return choose_caches(choose, text, &map, codebook_, job.name + ", choosing", *progress_,
                         stages().begin("choosing", text));
  }

  /// Everything for a reader, each table as `form` writes it.
  std::string report(std::string (Table::*form)() const) const {
    if (models_.empty()) return "";
    if (!choosing().empty()) return (choice_table(models_).*form)();
    if (models_.size() == 1) return (quality_table(models_[0]).*form)();
    std::vector<std::string> left_out;
    std::string text = (quality_grid(models_, left_out).*form)();
    text += fmt::format("\nKL(exact || quantized) in nats per token, geometric mean over {} models",
                        models_.size() - left_out.size());
    if (!left_out.empty()) text += fmt::format("; without {}", fmt::join(left_out, ", "));
    return text + "\n";
  }

  std::string chart() const {
    std::vector<std::string> left_out;
    const std::string svg = quality_chart(models_, left_out);
    if (!left_out.empty())
      progress_->warn(fmt::format("{}: a logarithmic axis has no place for a KL of 0: without {}", o_.chart,
                                  fmt::join(left_out, "; ")));
    return svg;
  }

  void check_gates() const {
    for (const ModelQuality& m : models_)
      for (const CacheQuality& c : m.caches)
        for (const Gate& gate : gates_)
          if (const double found = gate_value(gate, c.quality); gate.fails(found))
            throw Error(Exit::gate, fmt::format("{}: {}: {}", m.name, describe(c.spec), gate.text(found)));
  }

  const Options& o_;
  const CLI::App& command_;
  const GlobalOptions& global_;
  std::unique_ptr<Progress> progress_;
  Codebook codebook_;
  std::vector<CacheSpec> specs_;  // without --bits-kv
  std::vector<double> averages_;  // of --bits-kv, with the methods
  std::vector<std::string> k_methods_, v_methods_;
  std::vector<Gate> gates_;
  std::vector<ModelQuality> models_;
  std::unique_ptr<ResumeFile> resume_;
};

}  // namespace

void add_perplexity(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  o->set.run.chunk = 512;
  CLI::App* command =
      app.add_subcommand("perplexity",
                         "What a quantized cache does to the model's next-token distribution; "
                         "without --k-method and --v-method: the model's perplexity");
  add_model_set_options(*command, o->set);
  add_cache_options(*command, o->caches);
  command->add_option(
      "--choose", o->choose,
      "Key method/value method, as block-gtq/tq-mse: at its bytes, for every pair of bits, the "
      "calibration text chooses among the methods given, by KL beyond its noise, and both are measured");
  command->add_option("--bits-kv", o->bits_kv,
                      "Average bits per coordinate of keys and values together, as 4.5 or 2.5,3.5: the "
                      "calibration text chooses the split, and it and the even one are measured");
  command->add_flag("--pages", o->pages,
                    "Measure caches as pages hold them, for generate --kv and tasks with --pages: a key or "
                    "value nearer to zero than to the mean keeps it, in place of a method's plain code");
  command->add_option("--json", o->json, "Results as JSON; - for standard output");
  command->add_option("--csv", o->csv, "One row per model and cache as CSV; - for standard output");
  command->add_option("--md", o->markdown, "Tables as Markdown; - for standard output");
  add_html_option(*command, o->html);
  command->add_option("--chart", o->chart,
                      "KL against bytes per token as SVG, a line per methods and code over the budgets; of a "
                      "panel the geometric mean");
  command
      ->add_option(
          "--fail-if", o->gates,
          "Exit 7 when a cache is as bad as this: kl>0.1, kl99>1, ratio>1.05, top<0.95; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--force", o->force, "Replace existing outputs");
  add_resume_options(*command, o->resume);
  command->callback([o, command, &global] {
    require_kernels(o->caches, o->set.run);
    Perplexity(*o, *command, global).run();
  });
}

}  // namespace blockgtq
