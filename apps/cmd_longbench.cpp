#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "command_text.h"
#include "commands.h"
#include "result_files.h"
#include "task_report.h"
#include "task_run.h"
#include "tasks/longbench.h"
#include "tasks/text.h"

namespace blockgtq {
namespace {

struct Options {
  TaskOptions task;
  std::string data, tasks;
  int64_t context = 0, limit = 0;
};

std::string task_names() {
  std::string names;
  for (const LongBenchTask& task : longbench_tasks()) names += (names.empty() ? "" : ", ") + task.name;
  return names;
}

class LongBench {
 public:
  LongBench(const Options& o, const CLI::App& command, const GlobalOptions& global)
      : o_(o), global_(global), typed_(command_text(command)), progress_(global.make_progress()) {
    report_.command = "longbench";
    report_.columns = {"task"};
  }

  void run() {
    task_specs(o_.task);  // a mistake ends here
    ResultFiles files(o_.task.json, o_.task.csv, o_.task.markdown, o_.task.force, o_.task.html);
    const std::vector<const LongBenchTask*> tasks = chosen_tasks();
    std::vector<std::vector<LongBenchSample>> data;
    for (const LongBenchTask* task : tasks) data.push_back(read_longbench(file_of(*task), o_.limit));
    const TaskModel model(model_jobs(o_.task.set).at(0), o_.task, global_, *progress_);
    std::vector<TaskSample> samples;
    for (size_t t = 0; t < tasks.size(); ++t)
      for (const LongBenchSample& sample : data[t]) samples.push_back(make_sample(model, *tasks[t], sample));
    const Json facts = {
        {"command", "longbench"}, {"context", context(model)}, {"answer_tokens", o_.task.tokens}};
    report_.results.push_back(run_task(model, std::move(samples), facts, o_.task, global_, *progress_));
    const Table table = report_.table();
    files.write(report_.json({}), report_.answers().csv(), table.markdown(), table.text(),
                [&] { return report_.html({}, typed_); });
  }

 private:
  fs::path file_of(const LongBenchTask& task) const { return fs::path(o_.data) / (task.name + ".jsonl"); }

  /// Those that --task names, or that the folder has files of.
  std::vector<const LongBenchTask*> chosen_tasks() const {
    const std::vector<std::string> names = split(o_.tasks, ',');
    std::vector<const LongBenchTask*> tasks;
    size_t known = 0;
    for (const LongBenchTask& task : longbench_tasks()) {
      const auto n = size_t(std::count(names.begin(), names.end(), task.name));
      known += n;
      if (o_.tasks.empty() ? fs::exists(file_of(task)) : n > 0) tasks.push_back(&task);
    }
    if (!o_.tasks.empty() && known < names.size())
      throw Error(Exit::usage, fmt::format("--task: one of '{}' is unknown", o_.tasks), task_names());
    if (tasks.empty())
      throw Error(Exit::input, fmt::format("{}: no data of LongBench's English tasks", o_.data),
                  "a folder of narrativeqa.jsonl, qasper.jsonl, ... is expected");
    return tasks;
  }

  int64_t context(const TaskModel& model) const {
    return o_.context > 0 ? o_.context : model.model().config().max_position;
  }

  TaskSample make_sample(const TaskModel& model, const LongBenchTask& task,
                         const LongBenchSample& data) const {
    TaskSample sample;
    sample.id = task.name + "/" + data.id;
    sample.group = {task.name};
    sample.unit = data.id;
    Prompt& prompt = sample.prompt;
    prompt.most = o_.task.tokens > 0 ? o_.task.tokens : task.tokens;
    prompt.ends = model.last_tokens();
    if (task.one_line) {
      prompt.ends.push_back(model.tokenizer().encode("\n").back());
      prompt.begins = true;
    }
    const int64_t room = context(model) - prompt.most;
    bool cut = false;
    prompt.tokens = fitting(model, longbench_prompt(task, data), task.chat, room, cut);
    sample.facts = {{"task", task.name}, {"cut", cut}};
    sample.score = [&task, data](const std::string& text) { return longbench_score(task, data, text); };
    return sample;
  }

  /// The text's tokens; where there are more than `room`, the middle of the text is left out, as published.
  std::vector<int32_t> fitting(const TaskModel& model, const std::string& text, bool chat, int64_t room,
                               bool& cut) const {
    std::vector<int32_t> tokens = model.tokens_of(text, "", chat);
    cut = int64_t(tokens.size()) > room;
    if (!cut) return tokens;
    const std::vector<int32_t> plain = model.tokenizer().encode(text);
    int64_t kept = room - int64_t(tokens.size() - plain.size());  // less what goes around the text
    do {
      if (kept < 2)
        throw Error(Exit::usage,
                    fmt::format("--context {}: no room for a prompt and an answer", context(model)));
      const std::ptrdiff_t half = kept / 2;
      const std::string begin = model.tokenizer().decode({plain.begin(), plain.begin() + half}),
                        end = model.tokenizer().decode({plain.end() - half, plain.end()});
      tokens = model.tokens_of(valid_utf8(begin) + valid_utf8(end), "", chat);
      kept -= int64_t(tokens.size()) - room;  // the halves together may have more tokens than apart
    } while (int64_t(tokens.size()) > room);
    return tokens;
  }

  const Options& o_;
  const GlobalOptions& global_;
  std::string typed_;  // the command, for a page
  std::unique_ptr<Progress> progress_;
  TaskReport report_;
};

}  // namespace

void add_longbench(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "longbench", "LongBench's English tasks, answered under quantized caches and scored as published");
  add_task_model_options(*command, o->task.set);
  command->add_option("--data", o->data, "Folder of the data as published: TASK.jsonl; nothing is downloaded")
      ->required();
  command->add_option("--task", o->tasks,
                      "Tasks, comma-separated: " + task_names() + "; default: those that the folder has");
  command
      ->add_option("--context", o->context,
                   "Tokens of a prompt and its answer: the middle of a longer prompt is left out; 0: the "
                   "model's positions")
      ->check(in_range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--limit", o->limit, "First samples of every task; 0: all")
      ->check(in_range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  add_task_options(*command, o->task, "the task's");
  command->callback([o, command, &global] { LongBench(*o, *command, global).run(); });
}

}  // namespace blockgtq
