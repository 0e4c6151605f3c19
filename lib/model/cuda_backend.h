#pragma once
#include <cstdint>
#include <memory>

#include "model/backend.h"

namespace blockgtq {

/// The type of the operands of matrix products. bf16 and fp16 accumulate in float32. The residual stream,
/// norms, softmax and what on_layer gets stay float32. automatic: the type of the checkpoint's weights.
enum class ComputeType { automatic, fp32, bf16, fp16 };

/// How a run uses a GPU.
struct CudaOptions {
  int device = 0;
  ComputeType type = ComputeType::automatic;
  int64_t memory_limit_bytes = 0;  // device memory that a run may take; 0: all that is free
};

/// The decoder on a GPU, layer by layer; the next layer's weights are copied while one computes.
/// LayerActivations are in device memory, and so are the logits of on_device_logits. The same inputs give the
/// same bits in every run.
/// Weights of runs that continue a sequence and ask for logits stay on the device where all of them fit. The
/// model must outlive such runs. The next run of another kind or model frees these weights.
/// Exit::device where the run is not possible: no device, not enough memory (found before anything starts),
/// or a head dimension without a kernel.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace blockgtq
