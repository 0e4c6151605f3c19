// x <- mean + centre + backward decode(encode(forward (x - mean - centre))), or the same by the fallback
// code where that has the smaller error. quant/linear_code.h defines a code, and quant/linear_quantizer.cpp
// is the CPU twin.
//
// A warp takes kRows vectors through a code, without waiting for other warps. Its lanes read
// neighbouring elements of the matrices, from L1 and L2, and use each for kRows products. Lane l has
// columns l, l + 32, ...
//
// Shared memory per warp, with S = D padded to a multiple of 32:
//
//   x, z, y, w (kRows, S) floats   input; what is coded (unit vectors, then the values of their codes);
//                                  results of the main code; results of the fallback
//   TrellisScratch                 for trellis codes
//
// Bytes moved: x twice. Operations: 2 D n for each of the two matrices, 2 M n for centres, and those of a
// trellis (trellis.cuh).
#include <cuda_fp16.h>

#include "kernels/codes/round_trip.h"
#include "kernels/codes/row_product.cuh"
#include "kernels/codes/trellis.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/reduce.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kRows = 4, kWarps = 4, kLanes = 32;
constexpr float kLargestHalf = 65504;

struct Warp {
  float *x, *z, *y, *w;  // (kRows, pitch)
  TrellisScratch trellis;
  int pitch, lane;
};

/// Finds the centre nearest to every row of z, whose index becomes centre[r], and subtracts it from the row.
__device__ void subtract_centres(const LinearTable& t, const Warp& warp, int (&centre)[kRows]) {
  double least[kRows];
  for (int r = 0; r < kRows; ++r) least[r] = INFINITY, centre[r] = 0;
  for (int first = 0; first < t.centre_pitch; first += kLanes) {
    float sum[kRows] = {};
    for (int k = 0; k < t.n; ++k) {
      const float m = __ldg(t.z_columns + k * t.centre_pitch + first + warp.lane);
      for (int r = 0; r < kRows; ++r) sum[r] = fmaf(warp.z[r * warp.pitch + k], m, sum[r]);
    }
    const int i = first + warp.lane;
    if (i >= t.n_centres) continue;
    for (int r = 0; r < kRows; ++r)
      if (const double d = t.squares[i] - 2.0 * sum[r]; d < least[r]) least[r] = d, centre[r] = i;
  }
  for (int r = 0; r < kRows; ++r) {
    warp_least(least[r], centre[r]);
    for (int j = warp.lane; j < t.n; j += kLanes)
      warp.z[r * warp.pitch + j] -= t.z_centres[centre[r] * t.n + j];
  }
}

__device__ double norm_of(const float* z, const LinearSpan& span, int lane) {
  double sum = 0;
  for (int j = lane; j < span.d; j += kLanes) sum += double(z[span.first + j]) * z[span.first + j];
  return sqrt(warp_sum(sum));
}

/// Divides a span of z by its norm. Returns the norm as it is stored. Sets bad where the norm is not finite.
__device__ float normalize(float* z, const LinearSpan& span, int lane, bool& bad) {
  const double norm = norm_of(z, span, lane);
  bad |= !isfinite(norm);
  const double inverse = norm > 0 ? 1 / norm : 0;
  for (int j = lane; j < span.d; j += kLanes) z[span.first + j] = float(z[span.first + j] * inverse);
  return __half2float(__float2half_rn(fminf(float(norm), kLargestHalf)));
}

/// Scales the decoded values of a span so that their norm is the stored one.
__device__ void rescale(float* z, const LinearSpan& span, float norm, int lane) {
  const double length = norm_of(z, span, lane);
  const float scale = length > 0 ? float(norm / length) : 0;
  for (int j = lane; j < span.d; j += kLanes) z[span.first + j] *= scale;
}

/// The centroid nearest to y.
__device__ float nearest(const LinearGroup& g, float y) {
  int code = 0;
  for (int step = 1 << (g.bits - 1); step > 0; step >>= 1)
    code += y > __ldg(g.boundaries + code + step - 1) ? step : 0;
  return __ldg(g.centroids + code);
}

/// Replaces the coordinates of trellis groups by the values of their codes.
__device__ void code_stream(float* z, const LinearTable& t, const Warp& warp) {
  GroupStream stream(t.n_stream, t.groups);
  find_windows(stream, z, warp.trellis);
  for (int i = 0; i < t.n_trellis; ++i) {
    const LinearGroup g = t.groups[i];
    for (int j = g.first + warp.lane; j < g.first + g.d; j += kLanes)
      z[j] = __ldg(g.centroids + warp.trellis.states[j]);
  }
  __syncwarp();
}

/// Encodes and decodes warp.x: out (kRows, pitch). out may be warp.w, which holds the centred x until then.
/// clipped[r]: the row's norms that were cut to 65504.
template <int kColumns>
__device__ void pass(const LinearTable& t, const Warp& warp, float* out, int (&clipped)[kRows], bool& bad) {
  for (int r = 0; r < kRows; ++r)
    for (int j = warp.lane; j < warp.pitch; j += kLanes)
      warp.w[r * warp.pitch + j] = warp.x[r * warp.pitch + j] - (t.mean && j < t.dim ? t.mean[j] : 0);
  __syncwarp();
  multiply_rows<kRows, kColumns>(t.forward, t.dim, t.z_pitch, warp.w, warp.z, warp.pitch);
  __syncwarp();
  int centre[kRows] = {};
  if (t.n_centres) subtract_centres(t, warp, centre);
  __syncwarp();
  for (int r = 0; r < kRows; ++r) {
    float* z = warp.z + r * warp.pitch;
    clipped[r] = 0;
    float norms = 0;  // lane s has that of span s
    for (int s = 0; s < t.n_spans; ++s) {
      const float norm = normalize(z, t.spans[s], warp.lane, bad);
      clipped[r] += norm == kLargestHalf;
      if (warp.lane == s) norms = norm;
    }
    __syncwarp();
    if (t.n_trellis) code_stream(z, t, warp);
    for (int i = t.n_trellis; i < t.n_groups; ++i) {
      const LinearGroup g = t.groups[i];
      for (int j = warp.lane; j < g.d; j += kLanes) z[g.first + j] = nearest(g, z[g.first + j]);
    }
    __syncwarp();
    for (int s = 0; s < t.n_spans; ++s) rescale(z, t.spans[s], __shfl_sync(kWholeWarp, norms, s), warp.lane);
  }
  __syncwarp();
  multiply_rows<kRows, kColumns>(t.backward, t.n, t.x_pitch, warp.z, out, warp.pitch);
  for (int r = 0; r < kRows; ++r)
    for (int j = warp.lane; j < t.dim; j += kLanes) {
      float& to = out[r * warp.pitch + j];
      if (t.mean) to += t.mean[j];
      if (t.n_centres) to += t.centres[centre[r] * t.dim + j];
    }
  __syncwarp();
}

/// The sum of the squares of a row's error, weighted where the code has weights.
__device__ double error(const LinearTable& t, const float* x, const float* y, int lane) {
  double sum = 0;
  for (int j = lane; j < t.dim; j += kLanes) {
    const double e = double(x[j]) - y[j];
    sum += e * e * (t.weight ? t.weight[j] : 1.0f);
  }
  return warp_sum(sum);
}

template <int kColumns>
__global__ void __launch_bounds__(kWarps* kLanes) round_trip_kernel(RoundTrips trips, int warp_bytes) {
  extern __shared__ float4 shared[];
  constexpr int kPitch = kColumns * kLanes, kArray = kRows * kPitch;
  const int lane = threadIdx.x % kLanes, index = threadIdx.x / kLanes;
  auto* base = reinterpret_cast<float*>(reinterpret_cast<char*>(shared) + index * warp_bytes);
  const Warp warp{base,   base + kArray, base + 2 * kArray, base + 3 * kArray, {base + 4 * kArray, trips.dim},
                  kPitch, lane};

  const RoundTripJob job = trips.jobs[blockIdx.y];
  const LinearTable& t = *job.table;
  const int64_t first = (int64_t(blockIdx.x) * kWarps + index) * kRows;
  if (first >= job.n) return;
  const int n = int(min(int64_t(kRows), job.n - first));
  for (int r = 0; r < kRows; ++r)
    for (int j = lane; j < kPitch; j += kLanes)
      warp.x[r * kPitch + j] = r < n && j < t.dim ? job.x[(first + r) * job.stride + j] : 0;
  __syncwarp();

  int clipped[kRows], others[kRows];
  bool bad = false;
  pass<kColumns>(t, warp, warp.y, clipped, bad);
  if (t.fallback) {
    pass<kColumns>(*t.fallback, warp, warp.w, others, bad);
    for (int r = 0; r < n; ++r) {
      const float *x = warp.x + r * kPitch, *w = warp.w + r * kPitch;
      float* y = warp.y + r * kPitch;
      if (!(error(t, x, w, lane) < error(t, x, y, lane))) continue;
      clipped[r] = others[r];
      for (int j = lane; j < t.dim; j += kLanes) y[j] = w[j];
    }
  }
  int cut = 0;
  for (int r = 0; r < n; ++r) {
    cut += clipped[r];
    for (int j = lane; j < t.dim; j += kLanes) job.x[(first + r) * job.stride + j] = warp.y[r * kPitch + j];
  }
  if (lane != 0) return;
  if (cut) atomicAdd(&trips.counts->clipped, static_cast<unsigned long long>(cut));
  if (bad) atomicMax(&trips.counts->bad, static_cast<unsigned long long>(trips.n_jobs - int(blockIdx.y)));
}

template <int kColumns>
void launch(const RoundTrips& trips, const Stream& stream) {
  int bytes = 4 * kRows * kColumns * kLanes * int(sizeof(float));
  if (trips.trellis) bytes += TrellisScratch::bytes(trips.dim);
  check_cuda(cudaFuncSetAttribute(round_trip_kernel<kColumns>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kWarps * bytes),
             "round_trip: shared memory of a multiprocessor");
  constexpr int64_t kPerBlock = kWarps * kRows, kMaxJobs = 65535;
  check(trips.n_jobs <= kMaxJobs, "round_trip: too many jobs");
  const dim3 grid(unsigned((trips.longest + kPerBlock - 1) / kPerBlock), unsigned(trips.n_jobs));
  round_trip_kernel<kColumns><<<grid, kWarps * kLanes, kWarps * bytes, raw(stream)>>>(trips, bytes);
  check_launch("round_trip");
}

}  // namespace

void round_trip(const RoundTrips& trips, const Stream& stream) {
  check(trips.n_jobs >= 0 && trips.counts && trips.dim >= 1 && trips.dim <= kMaxLinearDim,
        "round_trip: arguments");
  if (trips.n_jobs == 0 || trips.longest == 0) return;
  switch ((trips.dim + kLanes - 1) / kLanes) {
    case 1:
      return launch<1>(trips, stream);
    case 2:
      return launch<2>(trips, stream);
    case 3:
      return launch<3>(trips, stream);
    case 4:
      return launch<4>(trips, stream);
    case 5:
    case 6:
      return launch<6>(trips, stream);
    default:
      return launch<8>(trips, stream);
  }
}

}  // namespace blockgtq::cuda
