#pragma once
#include <map>
#include <string>
#include <vector>

#include "hf/checkpoint.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// What of a map folds into a model's weights without changing what the model computes.
/// Keys: the rows of block i of W_k (and its bias) times a_i, those of W_q divided by it (balance_scales);
/// the scale is one for the two coordinates that RoPE turns, hence every logit stays. Values: W_v of a KV
/// head becomes U^T S W_v, W_o of its query heads W_o (U^T S)^-1, where the map carries a value basis. The
/// means do not fold: q . R_delta mu depends on the distance, and no bias can add it.
class Fold {
 public:
  /// Exit::input where no weights of this architecture carry a scale per head, or the map is not of this
  /// model. Both must outlive this.
  Fold(const Checkpoint& model, const BitMap& map);

  bool values() const { return values_; }
  bool changes(const std::string& tensor) const { return parts_.count(tensor) > 0; }
  /// The folded tensor, computed in float64 and rounded once: (rows, cols).
  std::vector<float> folded(const Tensor& tensor) const;

 private:
  enum class Role { query, key, value, output };
  struct Part {
    Role role;
    int layer;
  };

  const BitMap& map_;
  bool values_ = false;
  std::map<std::string, Part> parts_;  // tensor name -> what it does
};

/// Writes the model with its weights folded: a folder of config.json, the tokenizer's files and one
/// model.safetensors, where folded tensors are float32 and all others the bytes they were. Nothing appears
/// before all is written. Exit::output: the folder exists and force is not given, or is the model's own.
void write_folded(const Checkpoint& model, const Fold& fold, const fs::path& folder, bool force);

}  // namespace blockgtq
