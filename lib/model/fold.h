#pragma once
#include <map>
#include <string>
#include <vector>

#include "hf/checkpoint.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// Folds what it can of a map into a model's weights, so that the model computes the same.
/// - Keys: the rows of block i of W_k (and its bias) are multiplied by a_i (balance_scales()), those of W_q
///   divided by it. Both coordinates that RoPE rotates have the same scale, so every logit stays.
/// - Values: where the map has a value basis, W_v of a KV head becomes U^T S W_v, and W_o of its query heads
///   W_o (U^T S)^-1.
/// - Means do not fold: q . R_delta mu depends on the distance, and no bias adds that.
class Fold {
 public:
  /// model and map must outlive this object. Exit::input where no weights of this architecture have a scale
  /// per head, or the map is of another model.
  Fold(const Checkpoint& model, const BitMap& map);

  bool values() const { return values_; }
  bool changes(const std::string& tensor) const { return parts_.count(tensor) > 0; }
  /// The folded tensor (rows, cols), computed in float64 and rounded once.
  std::vector<float> folded(const Tensor& tensor) const;

 private:
  enum class Role { query, key, value, output };
  struct Part {
    Role role;
    int layer;
  };

  const BitMap& map_;
  bool values_ = false;
  std::map<std::string, Part> parts_;  // tensor name -> its role
};

/// Writes the model with folded weights: a folder of config.json, the tokenizer's files and one
/// model.safetensors. Folded tensors are float32, all others are copied byte for byte. Nothing appears before
/// all is written. Exit::output where the folder exists and force is not given, or it is the model's own.
void write_folded(const Checkpoint& model, const Fold& fold, const fs::path& folder, bool force);

}  // namespace blockgtq
