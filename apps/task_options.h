#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "cache_spec.h"
#include "model_set.h"
#include "tasks/sample_file.h"

namespace blockgtq {

/// What niah, longbench and aime have in common.
struct TaskOptions {
  ModelSetOptions set;
  CacheOptions caches;
  bool chat = false, pages = false, force = false;
  std::string system, folder, json, csv, markdown, html;
  ResumeOptions resume;
  int batch = 8;       // answers at once from pages on a GPU
  int64_t tokens = 0;  // of an answer at most; 0: the task's own
};

/// --chat, --system, --pages, --batch, --answer-tokens, -o, --resume, --checkpoint-seconds, --json, --csv,
/// --md, --html, --force and the cache options. default_tokens: what --answer-tokens says where it is not
/// given.
void add_task_options(CLI::App& command, TaskOptions& options, const std::string& default_tokens);

/// -m, --bos, --map or --calibration, --device: of tasks that read no text.
void add_task_model_options(CLI::App& command, ModelSetOptions& set);

/// The caches beside the exact one: none where nothing is said of any. Exit::usage as cache_specs().
std::vector<CacheSpec> task_specs(const TaskOptions& options);

}  // namespace blockgtq
