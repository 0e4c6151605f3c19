#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace blockgtq {

/// One method at one budget on one model; NaN where the panel has no number.
struct PanelCell {
  double mae, ratio;         // ratio: to tq-mse at the same budget
  double equal_bytes_ratio;  // to tq-mse at the same effective bits
  double effective_bits, bytes_per_token;
  int wins, layers;
  bool interpolated;
};

/// One model of the panel.
struct PanelModel {
  std::string name, error;  // error: why there is no result; empty when there is
  const Json* json;
  std::vector<std::vector<std::optional<PanelCell>>> cells;  // (budgets, methods)
};

/// Over the models that have both methods.
struct PanelMean {
  double ratio, equal_bytes_ratio;                 // geometric means
  double worst_equal_bytes_ratio;                  // the largest of a model
  double effective_bits, baseline_effective_bits;  // means
  int wins = 0, layers = 0, models = 0;
  // geometric means over the models that have every method at every budget; NaN where none has
  double mae, bytes_per_token;
};

/// A panel.json made ready to render: the union of budgets (ascending) and methods (tq-mse first, else in
/// order of appearance).
struct PanelView {
  explicit PanelView(const Json& panel);  // panel must outlive this

  std::vector<double> budgets;
  std::vector<std::string> methods;
  std::vector<PanelModel> models;
  int n_ok = 0;
  bool has_baseline = false;     // tq-mse, then methods[0]
  bool has_equal_bytes = false;  // some model had tq-mse at two sizes or more
  bool has_interpolated = false;

  size_t first_other() const { return has_baseline ? 1 : 0; }
  PanelMean mean(size_t budget, size_t method) const;
};

/// `summary` of a panel.json with models: a row per budget and method, PanelMean of it.
Json panel_summary(const Json& panel);

std::string method_title(const std::string& method);  // "TQ-MSE", "Block-GTQ"; others as they are called
std::string bits_title(double bits);                  // "1 bit", "2.5 bits"
std::string count_title(size_t n, const std::string& noun);  // "1 model", "2 models"

/// "2048 tokens in chunks of 256, 50 offsets within +-1024, cpu"
std::string eval_title(const Json& eval);

inline constexpr const char* kBaseline = "tq-mse";

}  // namespace blockgtq
