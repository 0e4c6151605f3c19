#include "kernels/device/check.cuh"
#include "kernels/device/graph.h"

namespace blockgtq::cuda {

Graph::Graph(const Stream& stream, const std::function<void()>& launches) {
  check_cuda(cudaStreamBeginCapture(raw(stream), cudaStreamCaptureModeThreadLocal), "begin of a graph");
  cudaGraph_t graph = nullptr;
  try {
    launches();
  } catch (...) {
    cudaStreamEndCapture(raw(stream), &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(raw(stream), &graph), "end of a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(status, "graph");
  executable_ = executable;
}

Graph::~Graph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::replay(const Stream& stream) const {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), raw(stream)), "launch of a graph");
}

}  // namespace blockgtq::cuda
