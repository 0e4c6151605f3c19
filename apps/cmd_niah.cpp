#include <fmt/format.h>

#include <optional>

#include "base/error.h"
#include "commands.h"
#include "decimal.h"
#include "niah.h"
#include "tasks/niah.h"

namespace blockgtq {
namespace {

/// Options that only one form of the command knows.
constexpr const char* kForcedOnly[] = {"--questions", "--needles"};
constexpr const char* kTasksOnly[] = {"--task", "--depths", "--trials", "--chart",
                                      "--chat", "--pages",  "--output", "--answer-tokens"};

void refuse_given(const CLI::App& command, std::span<const char* const> names, const char* why) {
  for (const char* name : names)
    if (command.count(name) > 0) throw Error(Exit::usage, fmt::format("{}: {}", name, why));
}

std::string task_names() {
  std::string names;
  for (const NiahTask& task : niah_tasks()) names += (names.empty() ? "" : ", ") + task.name;
  return names;
}

}  // namespace

std::vector<int64_t> niah_contexts(const NiahOptions& o) {
  std::vector<int64_t> contexts;
  for (const std::string& part : split(o.context, ',')) {
    const std::optional<int64_t> value = parse_whole(part);
    if (!value || *value < 64 || *value > (1 << 24))
      throw Error(Exit::usage,
                  fmt::format("--context: '{}' is not a number of tokens from 64 to 2^24", part));
    contexts.push_back(*value);
  }
  return contexts;
}

void add_niah(CLI::App& app, const GlobalOptions& global) {
  auto o = std::make_shared<NiahOptions>();
  o->task.set.run.tokens = 0;
  CLI::App* command =
      app.add_subcommand("niah", "Retrieval of what is hidden in a text, under a quantized cache");
  add_model_set_options(*command, o->task.set);
  add_task_options(*command, o->task, "128");
  auto score = std::make_shared<std::string>();
  command
      ->add_option("--score", *score,
                   "forced: numbers in the text of -f, read in one pass; generate: the tasks of RULER, whose "
                   "answers the model writes; default: generate where --task is given, else forced")
      ->check(CLI::IsMember({"forced", "generate"}));
  command
      ->add_option("--context", o->context,
                   "Tokens of a question, comma-separated; of a task with the answer's")
      ->capture_default_str();
  command->add_option("--task", o->tasks,
                      "Tasks of RULER, comma-separated: " + task_names() +
                          "; default: the first of each kind and single-2, single-3. -f is the essay that "
                          "all but single-1, multikey-2 and multikey-3 hide needles in");
  command->add_option("--depths", o->depths, "Where the first needle stands, in per cent of the haystack")
      ->capture_default_str();
  command->add_option("--trials", o->trials, "Questions of every task at every context, their depths in turn")
      ->check(in_range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  command->add_option("--chart", o->chart, "Scores over depth and context, a heat map per cache: FILE.svg");
  command->add_option("--questions", o->needles.questions, "forced: questions at every context")
      ->check(in_range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--needles", o->needles.needles, "forced: numbers hidden in every text; one is asked for")
      ->check(in_range(1, 100))
      ->capture_default_str();
  command->add_option("--seed", o->needles.seed, "Of the questions")->capture_default_str();
  command->callback([o, score, command, &global] {
    const bool generate = score->empty() ? command->count("--task") > 0 : *score == "generate";
    if (generate) {
      refuse_given(*command, kForcedOnly, "belongs to --score forced");
      run_niah_tasks(*o, *command, global);
    } else {
      refuse_given(*command, kTasksOnly, "belongs to --score generate");
      require_kernels(o->task.caches, o->task.set.run);
      run_niah_forced(*o, *command, global);
    }
  });
}

}  // namespace blockgtq
