#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/bootstrap.h"
#include "model_set.h"
#include "report/table.h"
#include "task_run.h"

namespace blockgtq {

/// One cache on one group of samples, or on all groups, each with the same weight.
struct TaskRow {
  std::vector<std::string> group;
  size_t cache = 0;  // of the result; 0: exact
  int64_t samples = 0;
  double bytes = 0, tokens = 0;  // per token; tokens of an answer: means
  double score = 0;
  Bootstrap::Interval interval{};             // of the score: Wilson, over units
  double difference = 0;                      // to the exact cache
  Bootstrap::Interval difference_interval{};  // bootstrap over units that both answered
};

/// Groups in order of appearance, in each the caches; behind several groups their average.
std::vector<TaskRow> task_rows(const TaskResult& result);

/// What a command leaves. columns: of a sample's group.
struct TaskReport {
  std::string command;
  std::vector<std::string> columns;
  std::vector<TaskResult> results;

  Table table(bool with_model = true) const;                   // rows
  Table answers() const;                                       // a row per cache and sample
  Json json(const std::vector<ModelFailure>& failures) const;  // schema blockgtq.tasks/1
  /// The page. typed: command_text; heat_map: an SVG of what the command knows more of than groups, or empty.
  std::string html(const std::vector<ModelFailure>& failures, const std::string& typed,
                   const std::string& heat_map = "") const;
};

}  // namespace blockgtq
