// out(s(r), c) = in(c, r) for r < rows, c < cols. s(r) = r, or with `interleaved` r / 2 for even r and
// rows / 2 + r / 2 for odd r.
//
// A block takes a square of 32 by 32 through shared memory, so that both sides are accessed row by row. Bytes
// moved: rows cols (size of from + size of to).
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/reorder.h"

namespace blockgtq::cuda {
namespace {

constexpr int kSide = 32, kRowsAtOnce = 8;

/// blockIdx.x counts squares along the rows of `out`, blockIdx.y along its columns.
template <class From, class To>
__global__ void __launch_bounds__(kSide* kRowsAtOnce)
    reorder_kernel(const Reorder a, const From* in, To* out) {
  __shared__ float square[kSide][kSide + 1];
  const int64_t first_row = int64_t(blockIdx.x) * kSide, first_column = int64_t(blockIdx.y) * kSide;
  const int lane = threadIdx.x % kSide, group = threadIdx.x / kSide;
  for (int i = group; i < kSide; i += kRowsAtOnce) {
    const int64_t r = first_row + lane, c = first_column + i;
    if (r < a.rows && c < a.cols) square[i][lane] = to_float(in[c * a.rows + r]);
  }
  __syncthreads();
  for (int i = group; i < kSide; i += kRowsAtOnce) {
    const int64_t r = first_row + i, c = first_column + lane;
    if (r >= a.rows || c >= a.cols) continue;
    const int64_t to = a.interleaved ? r / 2 + r % 2 * (a.rows / 2) : r;
    store(out + to * a.cols + c, square[lane][i]);
  }
}

}  // namespace

void reorder(const Reorder& a, const Stream& stream) {
  check(a.in && a.out && a.in != a.out && a.rows > 0 && a.cols > 0 && !(a.interleaved && a.rows % 2 != 0),
        "reorder: arguments");
  const int64_t across = (a.rows + kSide - 1) / kSide, down = (a.cols + kSide - 1) / kSide;
  check(across <= INT32_MAX && down <= 65535, "reorder: too large");
  with_type(a.from, [&](auto* from) {
    with_type(a.to, [&](auto* to) {
      using From = std::remove_pointer_t<decltype(from)>;
      using To = std::remove_pointer_t<decltype(to)>;
      reorder_kernel<From, To>
          <<<dim3(unsigned(across), unsigned(down)), kSide * kRowsAtOnce, 0, raw(stream)>>>(
              a, static_cast<const From*>(a.in), static_cast<To*>(a.out));
    });
  });
  check_launch("reorder");
}

}  // namespace blockgtq::cuda
