// out[i] = in[i] in another type, for n elements. Both arrays are dense, at any alignment of whole elements.
// A thread takes four elements at a time where both arrays are aligned to them. Bytes moved: n
// (size of from + size of to).
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/convert.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;

/// Converts the first n_packs * 4 elements in packs of four, the rest one by one.
template <class From, class To>
__global__ void convert_kernel(const From* in, To* out, int64_t n_packs, int64_t n) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x,
                step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < n_packs; i += step) {
    const Pack4<From> a = reinterpret_cast<const Pack4<From>*>(in)[i];
    Pack4<To> b;
    for (int j = 0; j < 4; ++j) store(&b.v[j], to_float(a.v[j]));
    reinterpret_cast<Pack4<To>*>(out)[i] = b;
  }
  for (int64_t i = 4 * n_packs + first; i < n; i += step) store(out + i, to_float(in[i]));
}

}  // namespace

void convert(const void* in, FloatType from, void* out, FloatType to, int64_t n, const Stream& stream) {
  check(n >= 0 && (n == 0 || (in && out)), "convert: arguments");
  if (n == 0) return;
  const bool packs = aligned(in, 4 * bytes_of(from)) && aligned(out, 4 * bytes_of(to));
  const int64_t n_packs = packs ? n / 4 : 0, work = std::max(n_packs, n - 4 * n_packs);
  const int blocks = int(std::min(kMaxBlocks, (work + kThreads - 1) / kThreads));
  with_type(from, [&](auto* from_type) {
    with_type(to, [&](auto* to_type) {
      using From = std::remove_pointer_t<decltype(from_type)>;
      using To = std::remove_pointer_t<decltype(to_type)>;
      convert_kernel<From, To><<<blocks, kThreads, 0, raw(stream)>>>(static_cast<const From*>(in),
                                                                     static_cast<To*>(out), n_packs, n);
    });
  });
  check_launch("convert");
}

}  // namespace blockgtq::cuda
