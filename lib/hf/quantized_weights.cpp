#include "hf/quantized_weights.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "hf/config_fields.h"
#include "hf/scale_grid.h"

namespace blockgtq {

namespace {

constexpr const char* kE4m3 = "F8_E4M3";
constexpr const char* kBlocks = "_blocks";
constexpr const char* kScales = "_scales";

template <class... T>
[[noreturn]] void fail(const FolderTensors& folder, const Tensor& tensor, fmt::format_string<T...> text,
                       T&&... values) {
  fail_input("{}: tensor {}: {}", folder.shards[folder.shard_of.at(tensor.name)].path().string(),
             shown(tensor.name), fmt::format(text, std::forward<T>(values)...));
}

const Tensor& scales_of(const FolderTensors& folder, const Tensor& tensor, const std::string& name) {
  const auto it = folder.tensors.find(name);
  if (it == folder.tensors.end())
    fail(folder, tensor, "{} without scales: {} is missing", tensor.dtype_name, shown(name));
  return it->second;
}

void require_finite(const FolderTensors& folder, const Tensor& scales) {
  const int64_t cols = scales.shape.empty() ? 1 : std::max<int64_t>(1, scales.shape.back());
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t first = 0; first < scales.elements(); first += cols) {
    scales.read(first, cols, row.data());
    for (int64_t i = 0; i < cols; ++i) {
      if (!std::isfinite(row[size_t(i)]))
        fail(folder, scales, "scale {} of row {} is not finite: {}", i, first / cols, row[size_t(i)]);
    }
  }
}

void attach_fp8(const QuantizedConfig& config, const FolderTensors& folder, Tensor& tensor) {
  const std::string of_scales = tensor.name + config.scale_ending;
  const Tensor& scales = scales_of(folder, tensor, of_scales);
  if (tensor.shape.size() < 2)
    fail(folder, tensor, "shape {}: scales are of matrices", shape_text(tensor.shape));
  auto grid = std::make_shared<ScaleGrid>();
  grid->scales = scales;
  grid->rows = tensor.shape[tensor.shape.size() - 2];
  grid->cols = tensor.shape.back();
  const auto block = [](int said, int64_t all) { return said != 0 ? said : std::max<int64_t>(1, all); };
  grid->block_rows = block(config.block_rows, grid->rows);
  grid->block_cols = block(config.block_cols, grid->cols);
  std::vector<int64_t> shape = tensor.shape;
  shape[shape.size() - 2] = (grid->rows + grid->block_rows - 1) / grid->block_rows;
  shape.back() = (grid->cols + grid->block_cols - 1) / grid->block_cols;
  // A single scale may have fewer dimensions.
  const bool single = std::all_of(shape.begin(), shape.end(), [](int64_t n) { return n == 1; });
  if (scales.shape != shape && !(single && scales.elements() == 1))
    fail(folder, scales, "shape {}, scales of {} are {}", shape_text(scales.shape), shape_text(tensor.shape),
         shape_text(shape));
  if (scales.dtype == DType::other)
    fail(folder, scales, "scales of dtype {} are not supported: F32, F16, BF16", scales.dtype_name);
  require_finite(folder, scales);
  tensor.grid = std::move(grid);
  tensor.dtype = DType::f8_e4m3;
}

void attach_all_fp8(const QuantizedConfig& config, FolderTensors folder) {
  std::set<std::string> beside;  // tensors that belong to a weight and are none themselves
  for (auto& [name, tensor] : folder.tensors) {
    const std::string scales = name + config.scale_ending;
    if (tensor.dtype_name != kE4m3) {
      if (folder.tensors.count(scales)) fail(folder, tensor, "{} with scales: {}", tensor.dtype_name, kE4m3);
      continue;
    }
    attach_fp8(config, folder, tensor);
    beside.insert(scales);
    const std::string module = name.ends_with("weight") ? name.substr(0, name.size() - 6) : name + "_";
    // Scales of activations, which stay in full precision.
    for (const char* other : {"activation_scale", "input_scale", "output_scale"})
      beside.insert(module + other);
    if (const auto zero = folder.tensors.find(name + "_zero_point"); zero != folder.tensors.end())
      fail(folder, zero->second, "zero points are not supported: none");
  }
  for (const std::string& name : beside) folder.tensors.erase(name);
}

/// X from X_blocks (..., rows, blocks, 16) and X_scales (..., rows, blocks).
Tensor mxfp4_tensor(const FolderTensors& folder, const Tensor& blocks, const std::string& name) {
  const std::string of_scales = name + kScales;
  const Tensor& scales = scales_of(folder, blocks, of_scales);
  for (const Tensor* part : {&blocks, &scales}) {
    if (part->dtype_name != "U8") fail(folder, *part, "dtype {}: U8", part->dtype_name);
  }
  const std::vector<int64_t>& shape = blocks.shape;
  if (shape.size() != 4 || shape.back() != kMxfp4Block / 2 || blocks.elements() == 0)
    fail(folder, blocks, "shape {}: (experts, rows, blocks, {})", shape_text(shape), kMxfp4Block / 2);
  if (scales.shape != std::vector<int64_t>(shape.begin(), shape.end() - 1))
    fail(folder, scales, "shape {}, the blocks are {}", shape_text(scales.shape), shape_text(shape));
  if (folder.tensors.count(name)) fail(folder, blocks, "{} is there too: one of them", shown(name));
  auto grid = std::make_shared<ScaleGrid>();
  grid->scales = scales;
  grid->rows = shape[1];
  grid->cols = shape[2] * kMxfp4Block;
  grid->block_cols = kMxfp4Block;
  Tensor out;
  out.name = name;
  out.dtype = DType::f4_e2m1;
  out.dtype_name = "MXFP4";
  out.shape = {shape[0], grid->cols, grid->rows};
  out.data = blocks.data;
  out.grid = std::move(grid);
  return out;
}

void attach_all_mxfp4(FolderTensors folder) {
  const auto other_than = [](const std::string& name, const char* ending, const char* other) {
    return name.substr(0, name.size() - std::string_view(ending).size()) + other;
  };
  std::vector<Tensor> found;
  for (const auto& [name, tensor] : folder.tensors) {
    if (name.ends_with(kBlocks)) found.push_back(mxfp4_tensor(folder, tensor, other_than(name, kBlocks, "")));
    if (name.ends_with(kScales) && !folder.tensors.count(other_than(name, kScales, kBlocks)))
      fail(folder, tensor, "scales without blocks: {} is missing", shown(other_than(name, kScales, kBlocks)));
  }
  for (Tensor& tensor : found) {
    folder.shard_of[tensor.name] = folder.shard_of.at(tensor.name + kBlocks);
    folder.tensors.erase(tensor.name + kBlocks);
    folder.tensors.erase(tensor.name + kScales);
    folder.tensors[tensor.name] = std::move(tensor);
  }
}

}  // namespace

void attach_scales(const QuantizedConfig& config, FolderTensors folder) {
  if (config.format == WeightFormat::fp8) attach_all_fp8(config, folder);
  if (config.format == WeightFormat::mxfp4) attach_all_mxfp4(folder);
}

}  // namespace blockgtq
