#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "tasks/scores.h"

namespace blockgtq {

/// An English task of LongBench; data/tasks/longbench.json has them.
struct LongBenchTask {
  std::string name;    // of the data set and its file
  std::string prompt;  // with {context} and {input}
  int64_t tokens = 0;  // an answer has at most so many
  Score score = Score::token_f1;
  bool chat = true;         // the chat template goes around it where one is asked for
  bool first_line = false;  // few-shot: the first line of the answer is scored
  bool one_line = false;    // the answer ends at its first line break, and has a token before it
};
const std::vector<LongBenchTask>& longbench_tasks();

struct LongBenchSample {
  std::string id, context, input;
  std::vector<std::string> answers, classes;
};
/// The first `limit` samples (0: all) of a file as published: JSON lines with _id, context, input, answers
/// and all_classes (a list or null). Exit::input for another file, and for a sample without answers.
std::vector<LongBenchSample> read_longbench(const fs::path& file, int64_t limit);

std::string longbench_prompt(const LongBenchTask& task, const LongBenchSample& sample);
double longbench_score(const LongBenchTask& task, const LongBenchSample& sample, const std::string& answer);

}  // namespace blockgtq
