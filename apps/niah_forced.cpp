#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "cache_run.h"
#include "cache_spec.h"
#include "command_text.h"
#include "eval/needle.h"
#include "hf/tokenizer.h"
#include "model_set.h"
#include "niah.h"
#include "report/chart.h"
#include "report/heat_map.h"
#include "report/number.h"
#include "report/page.h"
#include "report/panel_view.h"
#include "report/table.h"
#include "result_files.h"

namespace blockgtq {
namespace {

/// One cache on one model at one context.
struct Row {
  std::string model;
  int64_t context;
  CacheSpec spec;  // no bits: exact
  double bytes;
  Retrieval found;
};

class NiahForced {
 public:
  NiahForced(const NiahOptions& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o),
        command_(command),
        global_(global),
        typed_(command_text(command)),
        progress_(global.make_progress()),
        contexts_(niah_contexts(o)),
        specs_(cache_specs(o.task.caches)) {
    if (!o.task.set.run.ids.empty())
      throw Error(Exit::usage, "--ids: questions are put into a text: give -f TEXT");
  }

  void run() {
    ResultFiles files(o_.task.json, o_.task.csv, o_.task.markdown, o_.task.force, o_.task.html);
    resume_ = open_resume(files.first(), o_.task.resume, global_, *progress_);
    for_each_model(
        o_.task.set, *progress_, [&](const ModelJob& job) { run_model(job); },
        [&](const std::vector<ModelFailure>& failures) {
          const Table table = result_table();
          files.write(document(failures), table.csv(), table.markdown(), table.text(),
                      [&] { return page(table, failures); });
        });
    if (resume_) resume_->remove();
  }

 private:
  Stages stages() const { return {resume_.get(), &command_}; }

  void run_model(const ModelJob& job) {
    RunOptions haystack = job.evaluation;
    haystack.bos = false;  // questions have it, not the text they are put into
    const Session session = open_session(haystack, global_, *progress_);
    std::vector<CacheSpec> specs =
        specs_of_model(specs_, session.shape, job.name, !o_.task.set.panel.empty(), *progress_);
    const std::optional<BitMap> map =
        job_map(job, o_.task.set, session.shape, budgets_of(specs), global_, *progress_, stages());
    specs = resolve_chosen(specs, map ? &*map : nullptr, *progress_);
    const Codebook codebook = codebook_of(o_.task.caches, o_.task.set.run);
    std::vector<QuantizedCache> caches(1);  // the exact one
    for (const CacheSpec& spec : specs)
      caches.push_back(make_cache(spec, session.shape, map ? &*map : nullptr, codebook));
    const Tokenizer tokenizer = open_tokenizer(session.model->folder());
    NeedleSpec needles = o_.needles;
    if (job.evaluation.bos)
      needles.bos = first_token_id(session.model->folder(), session.model->config().vocab);
    for (int64_t context : contexts_) {
      if (const std::string text = beyond_positions(*session.model, context); !text.empty())
        progress_->warn(text);
      needles.context = context;
      const std::vector<Retrieval> found =
          ask(session, caches, make_needles(tokenizer, session.corpus.ids, needles),
              fmt::format("{}, context {}", job.name, context),
              stages().begin(fmt::format("context {}", context), session));
      for (size_t c = 0; c < caches.size(); ++c)
        rows_.push_back({job.name, context, c ? specs[c - 1] : CacheSpec(),
                         caches[c].key_bytes(context) + caches[c].value_bytes(context), found[c]});
    }
    Json facts = Json::object();
    for (const auto& [key, value] : session.provenance()) facts[key] = value;
    origins_.emplace_back(job.name, std::move(facts));
  }

  std::vector<Retrieval> ask(const Session& session, const std::vector<QuantizedCache>& caches,
                             const std::vector<NeedleQuestion>& questions, const std::string& what,
                             ResumeFile* resume) const {
    const std::vector<int64_t> right = right_tokens(session, caches, questions, what, resume);
    std::vector<Retrieval> found(caches.size());
    for (size_t i = 0; i < right.size(); ++i)
      found[i % found.size()].add(questions[i / found.size()].n_answer, right[i]);
    return found;
  }

  /// Tokens of the answers that are the likeliest ones, (questions, caches). resume: null, or a stage that
  /// keeps them.
  std::vector<int64_t> right_tokens(const Session& session, const std::vector<QuantizedCache>& caches,
                                    const std::vector<NeedleQuestion>& questions, const std::string& what,
                                    ResumeFile* resume) const {
    const int64_t vocab = session.model->config().vocab;
    const auto n_caches = int64_t(caches.size());
    std::vector<int32_t> tokens;
    for (const NeedleQuestion& q : questions) tokens.insert(tokens.end(), q.tokens.begin(), q.tokens.end());
    CacheRun run;
    run.tokens = tokens;
    run.chunk = int64_t(questions.at(0).tokens.size());
    for (const QuantizedCache& cache : caches) run.caches.push_back(&cache);
    std::vector<int64_t> right(questions.size() * caches.size());
    const auto before = [&](int64_t window) {
      return std::span<const int64_t>(right).first(size_t(window * n_caches));
    };
    if (const Json* state = resume ? resume->state() : nullptr) {
      run.start = place_of(*state);
      std::ranges::copy(resume->array<int64_t>("right", before(run.start->window).size()), right.begin());
    }
    run.on_logits = [&](int64_t window, size_t cache, int64_t first, int64_t n, const float* logits) {
      const NeedleQuestion& q = questions[size_t(window)];
      // the token at t is predicted at t - 1
      for (int64_t t = std::max(q.answer, first + 1); t < std::min(q.answer + q.n_answer, first + n + 1); ++t)
        right[size_t(window * n_caches) + cache] +=
            likeliest(logits + (t - 1 - first) * vocab, vocab) == q.tokens[size_t(t)];
    };
    if (resume)
      run.on_place = [&, saved = int64_t(0)](const CachePlace& place) mutable {
        if (place.window == saved || !resume->due()) return;
        resume->save(json_of(place), {{"right", before(place.window)}});
        saved = place.window;
      };
    const auto n_questions = int64_t(questions.size());
    if (!run.start || run.start->window < n_questions) run_caches(session, run, what, *progress_);
    if (resume) resume->end(json_of({0, 0, n_questions, 0}), {{"right", right}});
    return right;
  }

  Table result_table() const {
    Table table({"model", "context", "cache", "K method", "V method", "bytes/token", "questions",
                 "exact match", "error", "digits"});
    auto method = [](const std::string& name) { return name.empty() ? "exact" : name; };
    for (const Row& r : rows_)
      table.row({r.model, std::to_string(r.context), width_text(r.spec), method(r.spec.k_method),
                 method(r.spec.v_method), r.bytes ? fmt::format("{:g}", r.bytes) : "",
                 std::to_string(r.found.questions), percent(r.found.accuracy()),
                 percent(r.found.accuracy_error()), percent(r.found.token_accuracy())});
    return table;
  }

  /// Exact matches of every model over caches and contexts.
  HeatMaps heat_maps() const {
    HeatMaps maps{"Numbers found", "tokens", "cache", {}, {}, {}};
    for (const int64_t context : contexts_) maps.columns.push_back(std::to_string(context));
    for (const Row& r : rows_) {
      if (maps.maps.empty() || maps.maps.back().name != r.model) maps.maps.push_back({r.model, {}});
      const std::string cache = r.spec == CacheSpec() ? "exact" : describe(r.spec);
      auto& values = maps.maps.back().values;
      const auto at = size_t(std::find(maps.rows.begin(), maps.rows.end(), cache) - maps.rows.begin());
      if (at == maps.rows.size()) maps.rows.push_back(cache);
      values.resize(std::max(values.size(), at + 1));
      values[at].push_back(r.found.accuracy());
    }
    for (HeatMaps::Map& map : maps.maps) {  // a cache that some model has not
      map.values.resize(maps.rows.size());
      for (std::vector<double>& row : map.values) row.resize(maps.columns.size(), std::nan(""));
    }
    return maps;
  }

  std::string page(const Table& table, const std::vector<ModelFailure>& failures) const {
    Page page;
    page.title = "Numbers in a text, read under quantized caches";
    page.lead = fmt::format(
        "{} at every context, {} hidden in every text. A number is found where every token of it is the "
        "likeliest "
        "one behind the right ones before.",
        count_title(size_t(o_.needles.questions), "question"),
        count_title(size_t(o_.needles.needles), "number"));
    page.body = page_section("Found", table.html("Found"));
    if (!rows_.empty())
      page.body += page_section("By cache and length", page_figure(heat_map_svg(heat_maps()), "map"));
    for (const ModelFailure& f : failures)
      page.body += fmt::format("<p class=\"error\">{} failed: {}</p>\n", escape(f.name), escape(f.error));
    page.command = typed_;
    page.version = BLOCKGTQ_VERSION;
    page.data = document(failures);
    page.provenance = origins_;
    return page_html(page);
  }

  Json document(const std::vector<ModelFailure>& failures) const {
    Json json = {{"schema", "blockgtq.niah/1"},
                 {"codebook", name(codebook_of(o_.task.caches, o_.task.set.run))},
                 {"questions", o_.needles.questions},
                 {"needles", o_.needles.needles},
                 {"seed", o_.needles.seed}};
    if (o_.task.set.calibrate_from > 0) json["calibrate_from"] = o_.task.set.calibrate_from;
    json["results"] = Json::array();
    for (const Row& r : rows_)
      json["results"].push_back({{"model", r.model},
                                 {"context", r.context},
                                 {"k_method", r.spec.k_method.empty() ? "exact" : r.spec.k_method},
                                 {"v_method", r.spec.v_method.empty() ? "exact" : r.spec.v_method},
                                 {"k_bits", r.spec.bits.k},
                                 {"v_bits", r.spec.bits.v},
                                 {"code", code_text(r.spec)},
                                 {"sink", r.spec.exact.sink},
                                 {"recent", r.spec.exact.recent},
                                 {"bytes_per_token", r.bytes},
                                 {"questions", r.found.questions},
                                 {"exact", r.found.exact},
                                 {"accuracy", r.found.accuracy()},
                                 {"accuracy_error", r.found.accuracy_error()},
                                 {"token_accuracy", r.found.token_accuracy()}});
    json["failures"] = Json::array();
    for (const ModelFailure& f : failures) json["failures"].push_back({{"name", f.name}, {"error", f.error}});
    return json;
  }

  const NiahOptions& o_;
  const CLI::App& command_;
  const GlobalOptions& global_;
  std::string typed_;  // the command, for a page
  std::unique_ptr<Progress> progress_;
  std::vector<int64_t> contexts_;
  std::vector<CacheSpec> specs_;
  std::vector<Row> rows_;
  std::unique_ptr<ResumeFile> resume_;
  std::vector<std::pair<std::string, Json>> origins_;  // of every model
};

}  // namespace

void run_niah_forced(const NiahOptions& options, const CLI::App& command, const GlobalOptions& global) {
  NiahForced(options, command, global).run();
}

}  // namespace blockgtq
