#pragma once
#include <functional>
#include <string>
#include <vector>

#include "model/weights.h"

namespace blockgtq {

/// Finds tensors by name and shape, wherever they are. The files that know where a layer's weights are use
/// it.
struct WeightSource {
  std::function<Tensor(const std::string& name, const std::vector<int64_t>& shape)> get;
  std::function<const Tensor*(const std::string& name)> find;  // null where there is none of that name
};

/// The projection NAME.weight, and NAME.bias where `bias`.
Linear find_linear(const WeightSource& from, const std::string& name, int64_t rows, int64_t cols, bool bias);
/// Rows [first, first + n) of a fused projection.
Linear part(const Linear& fused, int64_t first, int64_t n);
Mlp find_mlp(const WeightSource& from, const std::string& prefix, int64_t hidden, int64_t intermediate,
             bool bias);
/// Finds router, experts and shared expert; `prefix` ends before "mlp." or "block_sparse_moe.".
void find_experts(const WeightSource& from, const std::string& prefix, const Config& c, LayerWeights& out);

}  // namespace blockgtq
