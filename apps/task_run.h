#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "answer.h"
#include "base/json.h"
#include "task_model.h"

namespace blockgtq {

/// A prompt of a task, and what its answer is worth.
struct TaskSample {
  std::string id;                  // no other sample has it
  std::vector<std::string> group;  // the row of the table that it counts for
  std::string unit;                // of what is drawn independently: samples of one problem share it
  Json facts;                      // stand in its record
  Prompt prompt;
  std::function<double(const std::string& text)> score;  // in [0, 1]
};

/// What became of one.
struct TaskRecord {
  double score = 0;
  int64_t prompt_tokens = 0, tokens = 0;  // of the answer
  bool ended = false;
};

/// The records (caches, samples) of one model.
struct TaskResult {
  std::string name;
  Json head;  // what they depend on
  std::vector<std::string> cache_names;
  std::vector<CacheSpec> specs;
  std::vector<std::vector<double>> bytes;  // (caches, samples) per token, of what is quantized
  std::vector<TaskSample> samples;         // without their prompts
  std::vector<std::vector<TaskRecord>> records;
};

/// Answers every sample with every cache. With -o, what NAME.jsonl holds already is not answered again;
/// `task` is what answers depend on beside the model. Exit::input for an answer in the file whose prompt is
/// another.
TaskResult run_task(const TaskModel& model, std::vector<TaskSample> samples, const Json& task,
                    const TaskOptions& options, const GlobalOptions& global, Progress& progress);

/// What a score, a place and a trial are drawn from, the same on every machine.
uint64_t seed_of(uint64_t seed, const std::string& id);

}  // namespace blockgtq
