#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "quant/bit_map.h"
#include "resume_options.h"
#include "session.h"

namespace blockgtq {

/// -m with --map or --calibration, or --panel: the models that perplexity or niah runs, and what their
/// quantizers are made from.
struct ModelSetOptions {
  RunOptions run;
  std::string panel, map, calibration;
  int64_t calibration_tokens = 2048, calibrate_from = 0;
  int centres = kCentres;
};
void add_model_set_options(CLI::App& command, ModelSetOptions& options);
/// --map, --calibration, --calibration-tokens, --calibrate-from, --centres of them.
void add_map_options(CLI::App& command, ModelSetOptions& options);

/// One model of the set.
struct ModelJob {
  std::string name;
  RunOptions evaluation;
  RunOptions calibration;  // no files where there is nothing to calibrate on
  ShareSpec allocation;    // of a panel's file; else as published
};

/// Exit::usage for options that do not go together. A panel brings its calibration text and tokens; its
/// evaluation text gives way to -f.
std::vector<ModelJob> model_jobs(const ModelSetOptions& options);

/// --map, held against the model; or a calibration of these budgets, a stage of its own; or nothing.
std::optional<BitMap> job_map(const ModelJob& job, const ModelSetOptions& options,
                              const AttentionShape& shape, const std::vector<double>& budgets,
                              const GlobalOptions& global, Progress& progress, const Stages& stages);

/// A model of a panel that could not be run, and why.
struct ModelFailure {
  std::string name, error;
};

/// Runs body on every job. In a panel a model that fails is a warning, the others go on, `finish` reports
/// what there is, and Exit::defect follows.
void for_each_model(const ModelSetOptions& options, Progress& progress,
                    const std::function<void(const ModelJob&)>& body,
                    const std::function<void(const std::vector<ModelFailure>&)>& finish);

}  // namespace blockgtq
