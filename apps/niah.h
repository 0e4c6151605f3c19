#pragma once
#include <string>
#include <vector>

#include "eval/needle.h"
#include "task_options.h"

namespace blockgtq {

/// niah in its two forms: answers that are generated, or read in one forced pass.
struct NiahOptions {
  TaskOptions task;  // set, caches and results count for both
  std::string context = "512";
  NeedleSpec needles;  // forced: questions, needles, seed
  std::string tasks, depths = "0,25,50,75,100", chart;
  int64_t trials = 10;
};

/// What --context names. Exit::usage.
std::vector<int64_t> niah_contexts(const NiahOptions& options);

/// Numbers in a text: are their tokens the likeliest ones behind the right ones before?
void run_niah_forced(const NiahOptions& options, const CLI::App& command, const GlobalOptions& global);
/// The tasks of RULER, answered and scored as there.
void run_niah_tasks(const NiahOptions& options, const CLI::App& command, const GlobalOptions& global);

}  // namespace blockgtq
