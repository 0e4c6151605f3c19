#pragma once
#include <string>
#include <vector>

#include "hf/checkpoint.h"
#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "model/cuda_backend.h"

namespace blockgtq {

/// A matrix in device memory, (rows, cols) of the products' type.
struct CudaMatrix {
  const void* w = nullptr;
  const float* bias = nullptr;  // (rows), or null
  int64_t rows = 0, cols = 0;
};

struct CudaLayerWeights {
  const float *input_norm = nullptr, *post_norm = nullptr;  // (hidden)
  const float *q_norm = nullptr, *k_norm = nullptr;         // (D), or null
  CudaMatrix qkv;                                           // (Hq D + 2 Hkv D, hidden): q, k, v
  CudaMatrix o;                                             // (hidden, Hq D)
  CudaMatrix gate_up;                                       // (2 intermediate, hidden): gate, up
  CudaMatrix down;                                          // (hidden, intermediate)
};

/// A dense decoder's weights, all of them resident on one device in the type of its products.
class CudaWeights {
 public:
  /// Of a checkpoint, streamed and converted layer by layer. Exit::device where the model has no such step,
  /// or the memory cannot be had.
  CudaWeights(const Checkpoint& model, const CudaOptions& options);
  /// Of a shape alone: norms of one, matrices of small random numbers, made on the device.
  CudaWeights(const Config& config, cuda::FloatType type);

  const Config& config() const { return config_; }
  cuda::FloatType type() const { return type_; }
  const void* embedding() const { return embedding_; }     // (vocab, hidden)
  const float* final_norm() const { return final_norm_; }  // (hidden)
  const CudaMatrix& head() const { return head_; }         // (vocab, hidden)
  const std::vector<CudaLayerWeights>& layers() const { return layers_; }
  int64_t bytes() const { return int64_t(memory_.bytes()); }

 private:
  void lay_out();
  void load(const Checkpoint& model, const CudaOptions& options);

  Config config_;
  cuda::FloatType type_;
  cuda::Buffer memory_;
  const void* embedding_ = nullptr;
  const float* final_norm_ = nullptr;
  CudaMatrix head_;
  std::vector<CudaLayerWeights> layers_;
};

}  // namespace blockgtq
