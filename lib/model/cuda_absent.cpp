#include "base/error.h"
#include "model/cuda_backend.h"

namespace blockgtq {

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions&) {
  throw Error(Exit::device, "this build has no CUDA backend", "--device cpu");
}

}  // namespace blockgtq
