#include "kernels/device/pointer.h"

#include "kernels/device/check.cuh"

namespace blockgtq::cuda {

int device_of(const void* pointer) {
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, pointer), "attributes of a pointer");
  if (attributes.type == cudaMemoryTypeDevice) return attributes.device;
  return attributes.type == cudaMemoryTypeManaged ? kAnyDevice : kNoDevice;
}

}  // namespace blockgtq::cuda
