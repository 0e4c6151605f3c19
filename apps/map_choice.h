#pragma once
#include <CLI/CLI.hpp>
#include <vector>

#include "allocation.h"
#include "quant/method_choice.h"
#include "report/table.h"
#include "resume_options.h"
#include "session.h"

namespace blockgtq {

/// --choose, --choose-tokens, --choose-chunk, --choose-sink and --choose-recent: whether the map is to say
/// which methods to take, the text that decides, and what its caches hold exactly.
struct MapChoiceOptions {
  bool choose = false;
  int64_t tokens = 2048, chunk = 512;
  ExactWindow exact;
};
void add_map_choice_options(CLI::App& command, MapChoiceOptions& options);

/// Exit::usage for a calibration that leaves nothing to choose on, or budgets that the reference cannot take.
void check_map_choice(const RunOptions& calibration, const AllocationOptions& allocation);

/// For every budget of the map and side of the cache, the other side exact: TQ-MSE, or what `text` chooses in
/// its place (eval/candidate.h) among methods and codes that the map and the model have. Budgets ascending,
/// keys before values. Every budget is a stage.
std::vector<MethodChoice> choose_methods(const BitMap& map, const Session& text, const ExactWindow& exact,
                                         Codebook codebook, Progress& progress, const Stages& stages);

/// One row per choice.
Table map_choice_table(const std::vector<MethodChoice>& choices);

}  // namespace blockgtq
