// The two ends of a decoding step: x_b = factor E[token_b], and token_b = the argmax of the logits. For the
// latter, the product with the output matrix has left one candidate per block. Bytes moved: a row of E per
// sequence, and 8 per candidate.
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/forward/candidate.cuh"
#include "kernels/forward/tokens.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kChoosers = 256;

template <class T>
__global__ void embed_kernel(const EmbedTokens a, const T* table) {
  let_successor_start();
  wait_for_predecessor();
  const int b = blockIdx.y;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < a.hidden) a.x[b * a.hidden + i] = a.factor * to_float(table[a.tokens[b] * a.hidden + i]);
}

__global__ void __launch_bounds__(kChoosers) choose_kernel(const ChooseTokens a) {
  __shared__ Candidate found[kChoosers / 32];
  let_successor_start();
  wait_for_predecessor();
  const int b = blockIdx.x;
  Candidate best = no_candidate();
  for (int64_t i = threadIdx.x; i < a.n; i += kChoosers) best = better(best, a.best[b * a.n + i]);
  best = best_of_lanes<32>(best);
  if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = best_of_lanes<32>(threadIdx.x < kChoosers / 32 ? found[threadIdx.x] : no_candidate());
  if (threadIdx.x > 0) return;
  if (best.row < 0)
    a.faults[b] = -best.row;
  else
    a.tokens[b] = best.row;
  a.positions[b] += 1;
}

}  // namespace

void embed_tokens(const EmbedTokens& a, const Stream& stream) {
  check(a.table && a.hidden > 0 && a.batch > 0 && a.batch <= 65535 && a.tokens && a.x,
        "embed_tokens: arguments");
  with_type(a.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch_early(embed_kernel<T>, dim3(unsigned((a.hidden + kThreads - 1) / kThreads), a.batch), kThreads, 0,
                 stream, "embedding of tokens", a, static_cast<const T*>(a.table));
  });
}

void choose_tokens(const ChooseTokens& a, const Stream& stream) {
  check(a.best && a.n > 0 && a.batch > 0 && a.tokens && a.positions && a.faults, "choose_tokens: arguments");
  launch_early(choose_kernel, dim3(a.batch), kChoosers, 0, stream, "choice of tokens", a);
}

}  // namespace blockgtq::cuda
