#include "device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "decimal.h"
#include "model/split_product.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device/device.h"
#include "kernels/forward/blas.h"
#include "model/cuda_plan.h"
#endif

namespace blockgtq {
namespace {

#ifdef BLOCKGTQ_CUDA
constexpr bool kHasCuda = true;
/// Empty when a GPU can be used, else why not.
std::string why_no_gpu() {
  return cuda::probe_devices().why_none;
}
#else
constexpr bool kHasCuda = false;
std::string why_no_gpu() {
  return "this build has no CUDA backend";
}
#endif

/// Makes it this thread's device: everything that follows computes there.
int use_gpu(int index) {
#ifdef BLOCKGTQ_CUDA
  cuda::set_device(index);
#endif
  return index;
}

ComputeType compute_type(const std::string& dtype) {
  if (dtype == "fp32") return ComputeType::fp32;
  if (dtype == "bf16") return ComputeType::bf16;
  if (dtype == "fp16") return ComputeType::fp16;
  return ComputeType::automatic;
}

DeviceChoice cpu(const RunOptions& run) {
  if (run.dtype == "bf16" || run.dtype == "fp16")
    throw Error(
        Exit::usage,
        fmt::format("--dtype: {} is not available on the CPU, which computes in fp32 or bf16x3", run.dtype));
  const bool split = run.dtype == "bf16x3";
  if (split && !has_split_products())
    throw Error(Exit::device, "--dtype: bf16x3 wants a processor with AMX", "--dtype fp32");
  use_split_products(split);
  return {make_cpu_backend(), "cpu", split ? "bf16x3" : "fp32"};
}

}  // namespace

int visible_gpus() {
#ifdef BLOCKGTQ_CUDA
  return int(cuda::probe_devices().devices.size());
#else
  return 0;
#endif
}

int gpu_index(const std::string& device, const GlobalOptions& global) {
  if (device == "cpu") return -1;
  if (device == "auto") {
    const std::string why = why_no_gpu();
    if (why.empty()) return use_gpu(0);
    static std::once_flag said;  // once per process: a panel opens twenty sessions
    std::call_once(said, [&] {
      kHasCuda ? global.say("device auto: the CPU: " + why) : global.note("device auto: the CPU: " + why);
    });
    return -1;
  }
  if (device != "cuda" && device.rfind("cuda:", 0) != 0)
    throw Error(Exit::usage, fmt::format("--device: '{}' is none of auto, cpu, cuda, cuda:N", device));
  const int64_t index = device == "cuda" ? 0 : parse_whole(device.substr(5)).value_or(-1);
  if (index < 0 || index > 1023)
    throw Error(Exit::usage, fmt::format("--device: '{}' names no device", device));
  const std::string why = why_no_gpu();
  if (!why.empty()) throw Error(Exit::device, fmt::format("--device: {}: {}", device, why), "--device cpu");
  if (const int visible = visible_gpus(); index >= visible)
    throw Error(Exit::device,
                fmt::format("--device: {}: {} device{} visible", device, visible, visible == 1 ? "" : "s"));
  return use_gpu(int(index));
}

DeviceChoice choose_device(const RunOptions& run, const Config& config, const GlobalOptions& global) {
  const bool cuda = run.device == "cuda" || run.device.rfind("cuda:", 0) == 0;
  if (cuda && !run.without_kernel.empty())
    throw Error(Exit::device, fmt::format("--device: {}: no kernel for {}", run.device, run.without_kernel),
                "--device cpu");
  const int index = gpu_index(run.device, global);
  if (index < 0) return cpu(run);
  if (!run.without_kernel.empty()) {
    static std::once_flag said;
    std::call_once(said, [&] { global.say("device auto: the CPU: no kernel for " + run.without_kernel); });
    return cpu(run);
  }
#ifdef BLOCKGTQ_CUDA
  const std::string what = without_kernel(config);
  if (run.device == "auto" && !what.empty()) {
    global.say("device auto: the CPU: no kernels for " + what);
    return cpu(run);
  }
#endif
  std::string dtype = run.dtype;
  if (dtype == "bf16x3")
    throw Error(Exit::usage, "--dtype: bf16x3 is not available on a GPU: auto, fp32, bf16, fp16");
  if (dtype == "auto")
    dtype = config.torch_dtype == "float16" ? "fp16" : config.torch_dtype == "float32" ? "fp32" : "bf16";
  return {make_cuda_backend(cuda_options(run, index)), "cuda", dtype};
}

CudaOptions cuda_options(const RunOptions& run, int gpu) {
  CudaOptions options;
  options.device = gpu;
  options.type = compute_type(run.dtype);
  options.memory_limit_bytes = run.gpu_memory.empty() ? 0 : parse_bytes(run.gpu_memory, "--gpu-memory");
  return options;
}

GpuInfo gpu_info(int gpu) {
#ifdef BLOCKGTQ_CUDA
  const cuda::DeviceInfo device = cuda::probe_devices().devices.at(size_t(gpu));
  return {device.name, device.total_bytes};
#else
  throw Error(Exit::device, fmt::format("cuda:{}: {}", gpu, why_no_gpu()));
#endif
}

std::vector<std::string> describe_cuda() {
#ifdef BLOCKGTQ_CUDA
  const cuda::DeviceReport report = cuda::probe_devices();
  std::vector<std::string> lines = {
      fmt::format("runtime {}, driver {}, code for {}", report.runtime,
                  report.driver.empty() ? "none" : report.driver, report.architectures),
      cuda::describe_blas()};
  for (const cuda::DeviceInfo& d : report.devices)
    lines.push_back(
        fmt::format("cuda:{} {}, compute capability {}.{}, {} multiprocessors, {:.1f} of {:.1f} GiB free",
                    d.index, d.name, d.major, d.minor, d.multiprocessors, double(d.free_bytes) / (1 << 30),
                    double(d.total_bytes) / (1 << 30)));
  if (report.devices.empty()) lines.push_back(report.why_none);
  return lines;
#else
  return {why_no_gpu()};
#endif
}

HostActivations::HostActivations(const LayerActivations& acts, const AttentionShape& shape)
    : q(acts.q), k(acts.k), v(acts.v) {
  if (!acts.stream) return;
#ifdef BLOCKGTQ_CUDA
  auto copy = [&](std::vector<float>& to, const float*& from, int64_t width) {
    if (!from) return;
    to.resize(acts.n_tokens * width);
    cuda::download_now(to.data(), from, to.size() * sizeof(float), acts.stream);
    from = to.data();
  };
  copy(copies_[0], q, int64_t(shape.n_heads) * shape.layout.head_dim);
  copy(copies_[1], k, int64_t(shape.n_kv_heads) * shape.layout.head_dim);
  copy(copies_[2], v, int64_t(shape.n_kv_heads) * shape.v_dim);
#endif
}

}  // namespace blockgtq
