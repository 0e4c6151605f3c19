// One block per sequence: thread 0 writes the lengths, all threads write the block table of exact pages. Page
// p of the sequence, behind the sink, is the ring's page (p - sink pages) % ring.
#include "cache/exact_page.h"
#include "kernels/cache/kv_lengths.h"
#include "kernels/device/check.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void lengths_kernel(const KvLengths a) {
  const int b = blockIdx.x, sinks = int(a.window.sink / kPagePositions), last = int(a.stride) - 1;
  // No kernel may start before this one ends: attention reads the lengths before its own wait.
  wait_for_predecessor();
  const int64_t length = int64_t(a.positions[b]) + 1, end = packed_end(a.window, length);
  const int64_t exact = exact_length(a.window, length);
  const int first = int(end / kPagePositions) - sinks;  // the oldest page of the ring
  for (int i = threadIdx.x; i < int(a.stride); i += kThreads)
    a.table[b * a.stride + i] =
        a.pages[b * a.stride + (i < sinks || i == last ? i : sinks + (first + i - sinks) % a.ring)];
  if (threadIdx.x > 0) return;
  a.packed[b] = int32_t(end);
  a.exact[b] = int32_t(exact);
  const bool held = length <= a.window.sink || a.window.recent > 0;
  a.starts[b] = int32_t(held ? exact - 1 : int64_t(last) * kPagePositions);
}

}  // namespace

void kv_lengths(const KvLengths& a, const Stream& stream) {
  check(a.positions && a.batch > 0 && a.pages && a.packed && a.exact && a.starts && a.table &&
            a.window.sink % kPagePositions == 0 && a.stride == a.window.sink / kPagePositions + a.ring + 1 &&
            a.ring * int64_t(kPagePositions) >= (a.window.recent > 0 ? a.window.recent + kPagePositions : 0),
        "kv_lengths: arguments");
  launch_early(lengths_kernel, dim3(a.batch), kThreads, 0, stream, "lengths of sequences", a);
}

}  // namespace blockgtq::cuda
