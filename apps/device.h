#pragma once
#include <memory>
#include <string>

#include "hf/config.h"
#include "model/backend.h"
#include "model/cuda_backend.h"
#include "options.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// Where a run computes, and in what.
struct DeviceChoice {
  std::unique_ptr<Backend> backend;
  std::string device;  // "cpu" or "cuda": which one makes no difference to the result
  std::string dtype;   // "fp32", "bf16x3", "bf16", "fp16"
};

/// Follows --device, --dtype and --gpu-memory. auto takes the first GPU where this build, the run and the
/// model's heads allow it, else the CPU, and says which.
DeviceChoice choose_device(const RunOptions& run, const Config& config, const GlobalOptions& global);

/// What --dtype and --gpu-memory say of a run on this GPU.
CudaOptions cuda_options(const RunOptions& run, int gpu);

/// Of a GPU that gpu_index() gave.
struct GpuInfo {
  std::string name;
  int64_t total_bytes = 0;
};
GpuInfo gpu_info(int gpu);

/// What `doctor` says of CUDA: one line per device, or why there is none.
std::vector<std::string> describe_cuda();

/// How many GPUs this build can see and use.
int visible_gpus();

/// The GPU that --device names, -1 for the CPU; auto as in choose_device, heads left out of account.
int gpu_index(const std::string& device, const GlobalOptions& global);

/// One layer's activations in host memory: where the CPU left them, or copied from the device.
struct HostActivations {
  HostActivations(const LayerActivations& acts, const AttentionShape& shape);
  const float *q, *k, *v;  // (T, Hq, D), (T, H, D), (T, H, Dv) or null

 private:
  std::vector<float> copies_[3];
};

}  // namespace blockgtq
