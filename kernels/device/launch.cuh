#pragma once
#include <type_traits>

#include "kernels/device/check.cuh"

namespace blockgtq::cuda {

/// Launches a kernel with programmatic dependent launch (from sm_90 on): it may begin while the preceding
/// kernel on the stream ends. So the kernel calls wait_for_predecessor() (ptx.cuh) before it touches anything
/// that an earlier kernel reads or writes. cluster: blocks per cluster, along x; 1 means no cluster.
template <class Kernel, class... Arguments>
void launch_clusters(Kernel kernel, dim3 grid, int cluster, int threads, int shared_bytes,
                     const Stream& stream, const char* what, const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {unsigned(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.attrs = attributes;
  config.numAttrs = attribute(cudaDevAttrComputeCapabilityMajor) < 9 ? 0 : cluster > 1 ? 2 : 1;
  config.stream = raw(stream);
  config.gridDim = grid;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  check_cuda(cudaLaunchKernelEx(&config, kernel, arguments...), what);
}
/// The same without a cluster.
template <class Kernel, class... Arguments>
void launch_early(Kernel kernel, dim3 grid, int threads, int shared_bytes, const Stream& stream,
                  const char* what, const Arguments&... arguments) {
  launch_clusters(kernel, grid, 1, threads, shared_bytes, stream, what, arguments...);
}

/// Calls f with the head dimension as an integral_constant. The cache's kernels are
/// compiled for these dimensions.
template <class F>
void with_dim(int dim, F f) {
  switch (dim) {
    case 64:
      return f(std::integral_constant<int, 64>());
    case 80:
      return f(std::integral_constant<int, 80>());
    case 96:
      return f(std::integral_constant<int, 96>());
    case 128:
      return f(std::integral_constant<int, 128>());
    case 256:
      return f(std::integral_constant<int, 256>());
    default:
      check(false, "head dimension");
  }
}

}  // namespace blockgtq::cuda
