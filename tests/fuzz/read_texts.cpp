// Lists that users and data sets bring: token ids, prompts, the samples of tasks.
#include "base/error.h"
#include "hf/corpus.h"
#include "prompt_list.h"
#include "reader.h"
#include "tasks/longbench.h"
#include "tasks/problems.h"

namespace blockgtq {

void fuzz_ids(std::string_view input) {
  CorpusSpec spec;
  spec.ids = scratch_file("ids.txt", input);
  spec.n_tokens = 0;
  const Corpus corpus = read_corpus(spec, scratch_folder(), 1000);
  check(!corpus.ids.empty(), "no ids and no error");
  for (const int32_t id : corpus.ids) check(id >= 0 && id < 1000, "an id out of range");
}

void fuzz_prompts(std::string_view input) {
  for (const ListedPrompt& p : read_prompts(scratch_file("prompts.jsonl", input)))
    check(p.text.has_value() == p.ids.empty(), "a prompt of text and ids");
}

/// The first byte chooses the data set.
void fuzz_tasks(std::string_view input) {
  if (input.empty()) return;
  const fs::path path = scratch_file("task.jsonl", input.substr(1));
  if (input[0] % 2 == 0) {
    for (const Problem& p : read_problems(path, 0)) {
      const double score = problem_score(p, p.text);
      check(score == 0 || score == 1, "a score");
    }
    return;
  }
  const std::vector<LongBenchTask>& tasks = longbench_tasks();
  const LongBenchTask& task = tasks[size_t(uint8_t(input[0])) / 2 % tasks.size()];
  for (const LongBenchSample& s : read_longbench(path, 0)) {
    static_cast<void>(longbench_prompt(task, s));
    const double score = longbench_score(task, s, s.context);
    check(score >= 0 && score <= 1, "a score beyond 0 to 1");
  }
}

}  // namespace blockgtq
