#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "hf/config.h"
#include "hf/tensor.h"

namespace blockgtq {

/// The tensors of a folder by name, and the shard that each lies in.
struct FolderTensors {
  const std::vector<MappedFile>& shards;
  std::map<std::string, Tensor>& tensors;
  std::map<std::string, size_t>& shard_of;
};

/// Gives the quantized tensors of a folder their scales (hf/scale_grid.h), and takes the tensors that hold
/// scales out of `tensors`: of FP8 all that are F8_E4M3, of MXFP4 X from X_blocks and X_scales. Scales that
/// are missing, of another shape or dtype or not finite, and zero points, are an error (Exit::input) that
/// names file and tensor. Those of MXFP4, a sixteenth of the weights, are not read here: one that is no
/// number makes its row of the weight not finite.
void attach_scales(const QuantizedConfig& config, FolderTensors folder);

}  // namespace blockgtq
