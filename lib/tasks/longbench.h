#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "tasks/scores.h"

namespace blockgtq {

/// An English task of LongBench, as data/tasks/longbench.json describes it.
struct LongBenchTask {
  std::string name;    // of the data set and its file
  std::string prompt;  // with {context} and {input}
  int64_t tokens = 0;  // the most tokens of an answer
  Score score = Score::token_f1;
  bool chat = true;         // the prompt goes into the chat template where one is asked for
  bool first_line = false;  // few-shot: only the first line of the answer is scored
  bool one_line = false;    // the answer ends at its first line break, after at least one token
};
const std::vector<LongBenchTask>& longbench_tasks();

/// One question of a task.
struct LongBenchSample {
  std::string id, context, input;
  std::vector<std::string> answers, classes;
};
/// The first `limit` samples (0: all) of a file as published: JSON lines with _id, context, input, answers
/// and all_classes (a list or null). Exit::input for any other file, and for a sample without answers.
std::vector<LongBenchSample> read_longbench(const fs::path& file, int64_t limit);

/// The prompt of a sample, and the score of an answer to it, in [0, 1].
std::string longbench_prompt(const LongBenchTask& task, const LongBenchSample& sample);
double longbench_score(const LongBenchTask& task, const LongBenchSample& sample, const std::string& answer);

}  // namespace blockgtq
