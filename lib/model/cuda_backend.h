#pragma once
#include <cstdint>
#include <memory>

#include "model/backend.h"

namespace blockgtq {

/// What the matrix products read. bf16 and fp16 accumulate in float32; the residual stream, norms, softmax
/// and what on_layer sees stay float32. automatic: the type the checkpoint's weights have.
enum class ComputeType { automatic, fp32, bf16, fp16 };

struct CudaOptions {
  int device = 0;
  ComputeType type = ComputeType::automatic;
  int64_t memory_limit_bytes = 0;  // of device memory that a run may take; 0: all that is free
};

/// The decoder on a GPU, layer by layer, with the next layer's weights copied while one computes. Weights of
/// runs that continue a sequence and ask for logits stay on the device where all of them fit: the model
/// outlives such runs, and they are let go by the next run of another kind or model.
/// LayerActivations hold device memory; so do logits for on_device_logits. Same inputs give the same bits
/// from run to run. Exit::device where this cannot be had: no device, not enough memory (found before
/// anything starts), or a head dimension without a kernel.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace blockgtq
