#pragma once
#include <functional>
#include <string>
#include <vector>

#include "kernels/forward/blas.h"
#include "kernels/forward/norm.h"
#include "kernels/forward/rope.h"
#include "model/cuda_plan.h"

namespace blockgtq {

/// A layer's weights, and where they are on the device.
struct ResidentLayer {
  int index;
  const LayerWeights& weights;
  const Parcel& parcel;
  const std::byte* base;
};

/// The decoder's steps as work on one CUDA stream. The residual stream of the model is the workspace's x.
/// Non-finite numbers are found on the device. The error is thrown, as on the CPU, when the host next waits
/// for the device.
class CudaDecoder {
 public:
  using Show = std::function<void(LayerActivations&)>;

  /// past: the sequence that the run continues, or null.
  CudaDecoder(const Checkpoint& model, const RunShape& run, Past* past, const Workspace& workspace,
              cuda::Blas& blas, cuda::Stream& stream);
  CudaDecoder(const CudaDecoder&) = delete;
  ~CudaDecoder();  // waits, because copies to its page-locked memory may be under way

  /// Sets x to the tokens' embeddings, and uploads the RoPE tables.
  void begin(const Tensor& embedding, std::span<const int32_t> tokens);
  /// Replaces the residual stream (T, hidden) that begin() set.
  void set_residual(const std::vector<float>& x);
  /// The residual stream (T, hidden) as it is now, after a check that it is finite. Waits.
  std::vector<float> residual();
  /// Projects q, k and v and calls `show` with them. Unless `stop`, it then adds the attention's output to x.
  /// A layer without keys and values does not call `show`.
  void attention(const ResidentLayer& layer, const Show& show, bool stop);
  /// x += the feed-forward part of its norm: dense, or the routed experts and the shared one.
  void feed_forward(const ResidentLayer& layer);
  /// The logits (n, vocab) of tokens [first, first + n), n <= kLogitTokens, in device memory until the next
  /// call.
  const float* logits(const OuterWeights& outer, const Parcel& parcel, const std::byte* base, int64_t first,
                      int64_t n);

 private:
  /// The arrays that find_nonfinite() has a word for, in the order of Workspace::words.
  enum Word { kOutput, kQ, kK, kV, kOther };
  /// An array (rows, cols) to check for non-finite numbers, and how an error names it.
  struct Watched {
    Word word;
    const float* x;
    int64_t rows, cols;
    std::string what;
    std::vector<const Tensor*> weights;  // that may be the cause
    int64_t first_token = 0;
  };

  // cuda_decoder.cpp
  const Config& config() const { return model_.config(); }
  const void* low(const void* x, int64_t first) const;
  void* low(void* x, int64_t first) const;  // element `first` of an array of the products' type
  void enter(const Parcel& parcel, const std::byte* base);
  const std::byte* resident(const Tensor& tensor) const;
  const float* floats(const Tensor& tensor) const;  // of a tensor that is stored there as float32
  void convert_rows(const Tensor& weight, int64_t first, int64_t n, cuda::FloatType type);
  void multiply(const Tensor& weight, int64_t rows, cuda::FloatType type, const void* x, int64_t n, float* y,
                int64_t y_stride, bool add, float scale = 1);
  void multiply_transposed(const Linear& w, const void* x, int64_t n, float* y, bool add, float scale);
  void add_bias(const Linear& w, float* y, int64_t y_stride, int64_t n, float scale = 1);
  void linear(const Linear& w, const void* x, int64_t n, float* y, bool add = false, float scale = 1);
  cuda::Norm prepare_norm(const Tensor& weight, double eps, const float* x, int64_t n) const;
  cuda::Norm model_norm(const Norm& weights, const float* x, int64_t n) const;
  void norm(const Norm& weights, const float* x, int64_t n, float* y, void* low);
  const void* input(const std::optional<Norm>& norm, const float* x, int64_t n, void* in, float* y = nullptr);
  void add_output(const Linear& w, const std::optional<Norm>& norm, const void* in, int64_t n, float* x);
  void watch(const Watched& watched);
  void require_finite(const std::vector<Watched>& watched);  // waits
  [[noreturn]] void report(const Watched& watched, int64_t index);
  Watched output_of(const ResidentLayer& layer) const;

  cuda::RopeTable upload_rope(bool local, float* cos, float* sin);

  // cuda_attention.cpp
  const void* attention_input(const LayerWeights& w, int64_t first, int64_t n);
  void turn(int layer, float* x, int64_t heads, int64_t dim);
  Past::Layer* held(const ResidentLayer& layer) const;
  void join(std::vector<float>& held, float* all, int64_t cols);
  void grouped_query_attention(const ResidentLayer& layer, const Show& show, bool stop);
  void project_heads(const LayerWeights& w);
  void latent_attention(const ResidentLayer& layer, const Show& show, bool stop);
  void project_latent(const LayerWeights& w);
  void expand_and_attend(const ResidentLayer& layer, int64_t first, int64_t n);
  Watched projection(const ResidentLayer& layer, Word word, const char* name, const float* x,
                     int64_t cols) const;
  void check_and_show(const ResidentLayer& layer, const std::vector<Watched>& projected,
                      const std::vector<Watched>& shown, const Show& show, LayerActivations acts, bool stop);

  // cuda_delta_net.cpp
  void project_delta(const DeltaWeights& w, const void* in, int64_t first, int64_t n);
  void delta_net(const ResidentLayer& layer, bool stop);

  // cuda_feed_forward.cpp
  void gate_up(const Mlp& mlp, const void* x, int64_t n, float* y);
  void activate(const Mlp& mlp, int64_t n);
  void add_mlp(const Mlp& mlp, const std::optional<Norm>& norm, const void* in, int64_t n, float* x);
  void add_shared(const LayerWeights& w, const void* in, int64_t n, float* x);
  void add_experts(const ResidentLayer& layer, int64_t first, int64_t n);
  void choose_experts(const ResidentLayer& layer, int64_t first, int64_t n);
  std::vector<int64_t> group_by_expert(int64_t n);

  const Checkpoint& model_;
  const RunShape& run_;
  Past* const past_;
  const Workspace& ws_;
  cuda::Blas& blas_;
  cuda::Stream& stream_;
  cuda::PinnedBuffer words_, routing_;
  cuda::RopeTable rope_, local_rope_;
  std::vector<Watched> pending_;  // the last layer's output, checked when the host waits
  const Parcel* parcel_ = nullptr;
  const std::byte* base_ = nullptr;  // of the parcel
};

}  // namespace blockgtq
