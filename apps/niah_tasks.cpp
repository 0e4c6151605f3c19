#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/sha256.h"
#include "command_text.h"
#include "decimal.h"
#include "hf/corpus.h"
#include "hf/text_source.h"
#include "niah.h"
#include "report/heat_map.h"
#include "result_files.h"
#include "task_report.h"
#include "task_run.h"
#include "tasks/niah.h"
#include "tasks/scores.h"

namespace blockgtq {
namespace {

constexpr const char* kDefaultTasks = "single-1,single-2,single-3,multikey-1,multivalue,multiquery";

std::vector<const NiahTask*> chosen_tasks(const std::string& names) {
  std::vector<const NiahTask*> tasks;
  for (const std::string& name : split(names.empty() ? kDefaultTasks : names, ',')) {
    const auto& all = niah_tasks();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const NiahTask& task) { return task.name == name; });
    if (found == all.end()) throw Error(Exit::usage, fmt::format("--task: '{}' is unknown", name));
    if (std::find(tasks.begin(), tasks.end(), &*found) == tasks.end()) tasks.push_back(&*found);
  }
  return tasks;
}

std::vector<double> depths_of(const std::string& text) {
  std::vector<double> depths;
  for (const std::string& part : split(text, ',')) {
    const std::optional<double> value = parse_decimal(part);
    if (!value || !(*value >= 0 && *value <= 100))
      throw Error(Exit::usage, fmt::format("--depths: '{}' is not from 0 to 100 per cent", part));
    depths.push_back(*value);
  }
  return depths;
}

class NiahTasks {
 public:
  NiahTasks(const NiahOptions& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o),
        global_(global),
        typed_(command_text(command)),
        progress_(global.make_progress()),
        contexts_(niah_contexts(o)),
        depths_(depths_of(o.depths)),
        tasks_(chosen_tasks(o.tasks)) {
    if (!o.task.set.run.ids.empty())
      throw Error(Exit::usage, "--ids: questions are put into a text: give -f TEXT");
    report_.command = "niah";
    report_.columns = {"task", "context"};
    if (!o.chart.empty()) chart_.emplace(o.chart, o.task.force);
  }

  void run() {
    task_specs(o_.task);  // a mistake ends here
    ResultFiles files(o_.task.json, o_.task.csv, o_.task.markdown, o_.task.force, o_.task.html);
    for_each_model(
        o_.task.set, *progress_, [&](const ModelJob& job) { run_model(job); },
        [&](const std::vector<ModelFailure>& failures) {
          if (chart_) chart_->write(heat_map_svg(heat_maps()));
          if (chart_) files.include(*chart_);
          const Table table = report_.table();
          files.write(report_.json(failures), report_.answers().csv(), table.markdown(), table.text(),
                      [&] { return report_.html(failures, typed_, heat_map_svg(heat_maps())); });
        });
  }

 private:
  void run_model(const ModelJob& job) {
    const std::string essay = read_essay(job.evaluation);
    const TaskModel model(job, o_.task, global_, *progress_);
    const std::vector<std::string> words = essay_words(essay);
    std::vector<TaskSample> samples;
    for (const NiahTask* task : tasks_) {
      if (task->haystack == Haystack::essay && words.empty())
        throw Error(Exit::usage, fmt::format("--task {}: a text is missing: give -f TEXT", task->name),
                    "single-1 hides its needle in lines of its own");
      for (const int64_t context : contexts_)
        for (int64_t trial = 0; trial < o_.trials; ++trial)
          samples.push_back(make_sample(model, *task, words, context, trial));
    }
    const Json facts = {{"command", "niah"},
                        {"essay", essay.empty() ? "none" : sha256_hex(essay)},
                        {"answer_tokens", answer_tokens()},
                        {"seed", o_.needles.seed}};
    report_.results.push_back(run_task(model, std::move(samples), facts, o_.task, global_, *progress_));
  }

  static std::string read_essay(const RunOptions& run) {
    std::string text;
    for (const std::string& file : run.files) text += TextSource(file, kMaxCorpusBytes - text.size()).text();
    return text;
  }

  int64_t answer_tokens() const { return o_.task.tokens > 0 ? o_.task.tokens : kNiahAnswerTokens; }

  TaskSample make_sample(const TaskModel& model, const NiahTask& task, std::span<const std::string> essay,
                         int64_t context, int64_t trial) const {
    const double depth = depths_[size_t(trial) % depths_.size()];
    TaskSample sample;
    sample.id = fmt::format("{}/{}/{}/{:g}", task.name, context, trial, depth);
    sample.group = {task.name, std::to_string(context)};
    sample.unit = sample.id;
    sample.facts = {{"task", task.name}, {"context", context}, {"depth", depth}, {"trial", trial}};
    const auto tokens = [&](const NiahQuestion& q) { return model.tokens_of(q.input, q.answer_prefix); };
    const NiahQuestion question = largest_niah(
        task, essay, depth / 100, seed_of(o_.needles.seed, sample.id),
        [&](const NiahQuestion& q) { return int64_t(tokens(q).size()) + answer_tokens() <= context; },
        fmt::format("--context {}: {}", context, task.name));
    sample.prompt = {.tokens = tokens(question), .most = answer_tokens(), .ends = model.last_tokens()};
    sample.score = [answers = question.answers](const std::string& text) {
      return string_match_all(text, answers);
    };
    return sample;
  }

  HeatMaps heat_maps() const {
    HeatMaps maps{"Needles found, all tasks together", "tokens", "depth of the needle, per cent", {}, {}, {}};
    for (const int64_t context : contexts_) maps.columns.push_back(std::to_string(context));
    for (const double depth : depths_) maps.rows.push_back(fmt::format("{:g}", depth));
    for (const TaskResult& result : report_.results)
      for (size_t c = 0; c < result.records.size(); ++c)
        maps.maps.push_back({fmt::format("{}: {}", result.name, result.cache_names[c]), cells(result, c)});
    return maps;
  }

  /// (depths, contexts) mean scores; NaN where no trial was.
  std::vector<std::vector<double>> cells(const TaskResult& result, size_t cache) const {
    std::vector<std::vector<double>> means;
    for (const double depth : depths_) {
      means.emplace_back();
      for (const int64_t context : contexts_) {
        double sum = 0;
        int64_t n = 0;
        for (size_t i = 0; i < result.samples.size(); ++i) {
          const Json& facts = result.samples[i].facts;
          if (facts.at("depth") != depth || facts.at("context") != context) continue;
          sum += result.records[cache][i].score;
          ++n;
        }
        means.back().push_back(n > 0 ? sum / double(n) : std::numeric_limits<double>::quiet_NaN());
      }
    }
    return means;
  }

  const NiahOptions& o_;
  const GlobalOptions& global_;
  std::string typed_;  // the command, for a page
  std::unique_ptr<Progress> progress_;
  std::vector<int64_t> contexts_;
  std::vector<double> depths_;  // per cent
  std::vector<const NiahTask*> tasks_;
  std::optional<OutputFile> chart_;
  TaskReport report_;
};

}  // namespace

void run_niah_tasks(const NiahOptions& options, const CLI::App& command, const GlobalOptions& global) {
  NiahTasks(options, command, global).run();
}

}  // namespace blockgtq
