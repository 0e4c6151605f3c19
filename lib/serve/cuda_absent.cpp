#include "base/error.h"
#include "serve/cuda_sequence.h"

namespace blockgtq {

std::string without_sequence(const Config&) {
  return "CUDA in this build";
}

std::string without_step(const Config& config) {
  return without_sequence(config);
}

std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint&, const AttentionShape&, const KvKind&,
                                             const CudaOptions&, int64_t, int64_t) {
  throw Error(Exit::device, "this build has no CUDA backend", "--device cpu");
}

std::unique_ptr<Batch> make_cuda_batch(const Checkpoint&, const AttentionShape&, const KvKind&,
                                       const CudaOptions&, int, int64_t, int64_t) {
  throw Error(Exit::device, "this build has no CUDA backend", "--device cpu");
}

}  // namespace blockgtq
