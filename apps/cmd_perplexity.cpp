#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cache_run.h"
#include "commands.h"
#include "gate.h"
#include "model_set.h"
#include "quality_report.h"

namespace blockgtq {
namespace {

struct Options {
  ModelSetOptions set;
  std::string k_methods, v_methods, bits_k, bits_v, pairs, json, csv, markdown;
  std::vector<std::string> gates;
  bool force = false;
};

/// --pairs, or every one of --bits-k with every one of --bits-v.
std::vector<BitPair> bit_pairs(const Options& o) {
  if (!o.pairs.empty() && !(o.bits_k.empty() && o.bits_v.empty()))
    throw Error(Exit::usage, "--pairs and --bits-k, --bits-v exclude each other");
  std::vector<BitPair> pairs;
  if (!o.pairs.empty()) {
    pairs = parse_pairs(o.pairs);
  } else {
    const std::string bits_k = o.bits_k.empty() ? "2,3" : o.bits_k,
                      bits_v = o.bits_v.empty() ? "2,3" : o.bits_v;
    const std::vector<double> exact = {0};
    for (double k : o.k_methods.empty() ? exact : parse_bits(bits_k, "--bits-k"))
      for (double v : o.v_methods.empty() ? exact : parse_bits(bits_v, "--bits-v")) pairs.push_back({k, v});
  }
  for (const BitPair& pair : pairs) {
    if (pair.k && o.k_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes keys: give --k-method", pair_text(pair)));
    if (pair.v && o.v_methods.empty())
      throw Error(Exit::usage, fmt::format("{} quantizes values: give --v-method", pair_text(pair)));
  }
  return pairs;
}

class Perplexity {
 public:
  Perplexity(const Options& o, const GlobalOptions& global)
      : o_(o), global_(global), progress_(global.make_progress()) {
    if (o.k_methods.empty() && o.v_methods.empty())
      throw Error(Exit::usage, "nothing to quantize: give --k-method or --v-method");
    const std::vector<BitPair> pairs = bit_pairs(o);
    std::vector<std::string> k_methods, v_methods;
    if (!o.k_methods.empty()) k_methods = parse_methods(o.k_methods, key_methods(), "--k-method");
    if (!o.v_methods.empty()) v_methods = parse_methods(o.v_methods, value_methods(), "--v-method");
    specs_ = cache_specs(k_methods, v_methods, pairs);
    for (const std::string& text : o.gates) gates_.emplace_back(text);
  }

  void run() {
    std::optional<OutputFile> json_file, csv_file, markdown_file;
    if (!o_.json.empty() && o_.json != "-") json_file.emplace(o_.json, o_.force);
    if (!o_.csv.empty()) csv_file.emplace(o_.csv, o_.force);
    if (!o_.markdown.empty()) markdown_file.emplace(o_.markdown, o_.force);
    for_each_model(
        o_.set, *progress_, [&](const ModelJob& job) { models_.push_back(run_model(job)); },
        [&](const std::vector<ModelFailure>& failures) {
          const Json json = quality_json(models_, failures);
          if (o_.json == "-")
            write_json(json, "-", false);
          else
            write_stdout(report(&Table::text));
          if (json_file) json_file->write(dump_json(json)), json_file->commit();
          if (csv_file) csv_file->write(quality_rows(models_).csv()), csv_file->commit();
          if (markdown_file) markdown_file->write(report(&Table::markdown)), markdown_file->commit();
        });
    check_gates();
  }

 private:
  ModelQuality run_model(const ModelJob& job) {
    const Session session = open_session(job.evaluation, global_, *progress_);
    ModelQuality model;
    model.name = job.name;
    model.provenance = session.provenance;
    model.n_tokens = session.n_tokens();
    model.chunk = session.chunk;
    model.device = session.device;
    const std::vector<CacheSpec> specs = specs_of(job, session.shape);
    const std::optional<BitMap> map =
        job_map(job, o_.set, session.shape, budgets_of(specs), global_, *progress_);
    std::vector<QuantizedCache> caches;
    for (const CacheSpec& spec : specs)
      caches.push_back(make_cache(spec, session.shape, map ? &*map : nullptr));
    const QualityRun run = measure_quality(session, caches, job.name, *progress_);
    model.exact = run.exact;
    for (size_t c = 0; c < specs.size(); ++c)
      model.caches.push_back({specs[c], caches[c].key_bytes(session.chunk),
                              caches[c].value_bytes(session.chunk), run.caches[c]});
    return model;
  }

  /// What this model can be asked: a latent cache has no values per head.
  std::vector<CacheSpec> specs_of(const ModelJob& job, const AttentionShape& shape) const {
    if (shape.v_dim > 0) return specs_;
    std::vector<CacheSpec> keys;
    for (const CacheSpec& spec : specs_)
      if (!spec.bits.v) keys.push_back(spec);
    const std::string why = fmt::format("{}: caches a latent, not values per head", job.name);
    if (keys.size() == specs_.size()) return keys;
    if (o_.set.panel.empty() || keys.empty())
      throw Error(Exit::input, why, "quantize its keys only: --pairs K2");
    progress_->warn(why + ": keys only");
    return keys;
  }

  /// Everything for a reader, each table as `form` writes it.
  std::string report(std::string (Table::*form)() const) const {
    if (models_.empty()) return "";
    if (models_.size() == 1) return (quality_table(models_[0]).*form)();
    std::vector<std::string> left_out;
    std::string text = (quality_grid(models_, left_out).*form)();
    text += fmt::format("\nKL(exact || quantized) in nats per token, geometric mean over {} models",
                        models_.size() - left_out.size());
    if (!left_out.empty()) text += fmt::format("; without {}", fmt::join(left_out, ", "));
    return text + "\n";
  }

  void check_gates() const {
    for (const ModelQuality& m : models_)
      for (const CacheQuality& c : m.caches)
        for (const Gate& gate : gates_)
          if (gate.fails(c.quality))
            throw Error(Exit::gate,
                        fmt::format("{}: {}: {}", m.name, describe(c.spec), gate.text(c.quality)));
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::unique_ptr<Progress> progress_;
  std::vector<CacheSpec> specs_;
  std::vector<Gate> gates_;
  std::vector<ModelQuality> models_;
};

}  // namespace

void add_perplexity(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  o->set.run.chunk = 512;
  CLI::App* command =
      app.add_subcommand("perplexity", "What a quantized cache does to the model's next-token distribution");
  add_model_set_options(*command, o->set);
  command->add_option("--k-method", o->k_methods, "Key methods, comma-separated");
  command->add_option("--v-method", o->v_methods,
                      "Value methods, comma-separated: every one with every key method");
  command->add_option("--pairs", o->pairs,
                      "Bits of keys and values, as K2V2,K3V3,K2,V3 (what is not named is exact)");
  command->add_option("--bits-k", o->bits_k,
                      "In place of --pairs: bits of keys, each with every one of --bits-v");
  command->add_option("--bits-v", o->bits_v, "Bits of values; both default to 2,3");
  command->add_option("--json", o->json, "Results as JSON; - for standard output");
  command->add_option("--csv", o->csv, "One row per model and cache as CSV");
  command->add_option("--md", o->markdown, "Tables as Markdown");
  command
      ->add_option(
          "--fail-if", o->gates,
          "Exit 7 when a cache is as bad as this: kl>0.1, kl99>1, ratio>1.05, top<0.95; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--force", o->force, "Replace existing outputs");
  command->callback([o, &global] { Perplexity(*o, global).run(); });
}

}  // namespace blockgtq
