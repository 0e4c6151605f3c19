#include <fmt/format.h>

#include "command_text.h"
#include "commands.h"
#include "result_files.h"
#include "sampling_options.h"
#include "task_report.h"
#include "task_run.h"
#include "tasks/problems.h"

namespace blockgtq {
namespace {

constexpr int64_t kAnswerTokens = 4096;

struct Options {
  TaskOptions task;
  std::string data;
  int64_t limit = 0, samples = 1;
  Sampling sampling{.temperature = 0.6, .top_p = 0.95};
  uint64_t seed = 42;
};

class Aime {
 public:
  Aime(const Options& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o), global_(global), typed_(command_text(command)), progress_(global.make_progress()) {
    report_.command = "aime";
  }

  void run() {
    task_specs(o_.task);  // a mistake ends here
    ResultFiles files(o_.task.json, o_.task.csv, o_.task.markdown, o_.task.force, o_.task.html);
    const std::vector<Problem> problems = read_problems(o_.data, o_.limit);
    const TaskModel model(model_jobs(o_.task.set).at(0), o_.task, global_, *progress_);
    std::vector<TaskSample> samples;
    for (const Problem& problem : problems)
      for (int64_t i = 0; i < o_.samples; ++i) samples.push_back(make_sample(model, problem, i));
    const Json facts = {{"command", "aime"},
                        {"answer_tokens", answer_tokens()},
                        {"temperature", o_.sampling.temperature},
                        {"top_k", o_.sampling.top_k},
                        {"top_p", o_.sampling.top_p},
                        {"seed", o_.seed}};
    report_.results.push_back(run_task(model, std::move(samples), facts, o_.task, global_, *progress_));
    const Table table = report_.table();
    files.write(report_.json({}), report_.answers().csv(), table.markdown(), table.text(),
                [&] { return report_.html({}, typed_); });
  }

 private:
  int64_t answer_tokens() const { return o_.task.tokens > 0 ? o_.task.tokens : kAnswerTokens; }

  TaskSample make_sample(const TaskModel& model, const Problem& problem, int64_t i) const {
    TaskSample sample;
    sample.id = fmt::format("{}/{}", problem.id, i);
    sample.unit = problem.id;
    sample.facts = {{"problem", problem.id}, {"sample", i}};
    sample.prompt = {.tokens = model.tokens_of(problem_prompt(problem)),
                     .most = answer_tokens(),
                     .ends = model.last_tokens(),
                     .sampling = o_.sampling,
                     .seed = seed_of(o_.seed, sample.id)};
    sample.score = [problem](const std::string& text) { return problem_score(problem, text); };
    return sample;
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::string typed_;  // the command, for a page
  std::unique_ptr<Progress> progress_;
  TaskReport report_;
};

}  // namespace

void add_aime(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "aime", "Problems with one right answer, reasoned about under quantized caches: pass@1");
  add_task_model_options(*command, o->task.set);
  command->add_option("--data", o->data, "JSON lines with \"problem\" and \"answer\"; nothing is downloaded")
      ->required();
  command->add_option("--limit", o->limit, "First problems; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  command->add_option("--samples", o->samples, "Answers to every problem; the score is their mean")
      ->check(in_range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  add_sampling_options(*command, o->sampling);
  command->add_option("--seed", o->seed, "Of the draws, which every cache shares")->capture_default_str();
  add_task_options(*command, o->task, std::to_string(kAnswerTokens));
  command->callback([o, command, &global] { Aime(*o, *command, global).run(); });
}

}  // namespace blockgtq
