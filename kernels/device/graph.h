#pragma once
#include <functional>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// Launches recorded once and replayed without their single overheads.
class Graph {
 public:
  /// Records what `launches` puts on `stream`; nothing runs yet.
  Graph(const Stream& stream, const std::function<void()>& launches);
  Graph(const Graph&) = delete;
  ~Graph();
  void replay(const Stream& stream) const;

 private:
  void* executable_ = nullptr;
};

}  // namespace blockgtq::cuda
