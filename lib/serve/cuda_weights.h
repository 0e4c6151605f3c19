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

/// Rows [first, first + rows) of a matrix.
CudaMatrix rows_of(const CudaMatrix& m, int64_t first, int64_t rows, cuda::FloatType type);

/// Weight and bias of a norm, (hidden); null where there is none.
struct CudaNorm {
  const float *weight = nullptr, *bias = nullptr;
};

/// A mixture of E experts, each I wide. The matrices of all experts lie one after the other.
struct CudaExperts {
  CudaMatrix router;                       // (E, hidden) float32
  const float* choice_bias = nullptr;      // (E), or null
  CudaMatrix gate_up, down;                // (E 2 I, hidden): gate and up of each expert; (E hidden, I)
  CudaMatrix shared_gate_up, shared_down;  // w null: none
  CudaMatrix shared_gate;                  // (1, hidden) float32; w null: none
};

/// The weights of one layer.
struct CudaLayerWeights {
  const float *input_norm = nullptr, *post_norm = nullptr;  // (hidden), or null where there is no norm before
  const float *input_norm_bias = nullptr, *post_norm_bias = nullptr;  // (hidden), or null
  CudaNorm attention_norm, output_norm;              // after attention, after the feed-forward part
  const float *q_norm = nullptr, *k_norm = nullptr;  // (D), or (Hq D) and (Hkv D), or null
  const float* sinks = nullptr;                      // (Hq), or null
  CudaMatrix qkv;                                    // (Hq D + 2 Hkv D, hidden): q, k, v
  CudaMatrix o;                                      // (hidden, Hq D)
  CudaMatrix gate_up;   // (2 intermediate, hidden): gate, up; only up without a gate; w null: experts
  CudaMatrix down;      // (hidden, intermediate)
  CudaExperts experts;  // router.w null: none
};

/// Whether the dense feed-forward part has a gate; without one it has `up` alone.
bool has_gates(const Config& config);

/// A decoder's weights, all resident on one device, in the type of its products.
class CudaWeights {
 public:
  /// From a checkpoint, streamed and converted layer by layer. Exit::device where the model has no decoding
  /// step on a GPU, or memory cannot be allocated.
  CudaWeights(const Checkpoint& model, const CudaOptions& options);
  /// For a shape alone, for benchmarks: norms of one and matrices of small random numbers, made on the
  /// device.
  CudaWeights(const Config& config, cuda::FloatType type);

  const Config& config() const { return config_; }
  cuda::FloatType type() const { return type_; }
  const void* embedding() const { return embedding_; }               // (vocab, hidden)
  const float* final_norm() const { return final_norm_; }            // (hidden)
  const float* final_norm_bias() const { return final_norm_bias_; }  // (hidden), or null
  const CudaMatrix& head() const { return head_; }                   // (vocab, hidden)
  const std::vector<CudaLayerWeights>& layers() const { return layers_; }
  int64_t bytes() const { return int64_t(memory_.bytes()); }

 private:
  void lay_out();
  void load(const Checkpoint& model, const CudaOptions& options);

  Config config_;
  cuda::FloatType type_;
  cuda::Buffer memory_;
  const void* embedding_ = nullptr;
  const float *final_norm_ = nullptr, *final_norm_bias_ = nullptr;
  CudaMatrix head_;
  std::vector<CudaLayerWeights> layers_;
};

}  // namespace blockgtq
