#pragma once
#include <cuda_runtime.h>
#include <fmt/format.h>

#include "base/error.h"
#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// Turns a CUDA status into an Error of exit code 5 that names what was tried.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears the recorded error, which the next check_launch() would report
  throw Error(Exit::device, fmt::format("CUDA: {}: {}", what, cudaGetErrorString(status)));
}

/// Checks the launch that was just made. Call it after every launch.
inline void check_launch(const char* kernel) {
  check_cuda(cudaGetLastError(), kernel);
}

/// An attribute of the current device.
inline int attribute(cudaDeviceAttr what) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  check_cuda(cudaDeviceGetAttribute(&value, what, device), "device attribute");
  return value;
}

inline cudaStream_t raw(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

}  // namespace blockgtq::cuda
