#pragma once
#include <functional>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// A CUDA graph: launches are recorded once and replayed together, without the overhead of each launch.
class Graph {
 public:
  /// Records what `launches` puts on `stream`. Nothing runs yet.
  Graph(const Stream& stream, const std::function<void()>& launches);
  Graph(const Graph&) = delete;
  ~Graph();
  void replay(const Stream& stream) const;

 private:
  void* executable_ = nullptr;
};

}  // namespace blockgtq::cuda
