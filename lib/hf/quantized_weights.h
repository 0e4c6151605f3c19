#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "hf/config.h"
#include "hf/tensor.h"

namespace blockgtq {

/// The tensors of a folder by name, and the shard that holds each.
struct FolderTensors {
  const std::vector<MappedFile>& shards;
  std::map<std::string, Tensor>& tensors;
  std::map<std::string, size_t>& shard_of;
};

/// Gives the quantized tensors of a folder their scales (hf/scale_grid.h) and removes the tensors that hold
/// scales from `tensors`. In FP8 these are all tensors of F8_E4M3, in MXFP4 X from X_blocks and X_scales.
/// Exit::input names file and tensor where scales are missing, of another shape or dtype, or not finite, and
/// where there are zero points. The scales of MXFP4, a sixteenth of the weights, are not read here: a NaN
/// among them makes its row of the weight not finite.
void attach_scales(const QuantizedConfig& config, FolderTensors folder);

}  // namespace blockgtq
