#pragma once
#include <cstdint>

namespace blockgtq::capi {

/// Cuts a caller's scratch memory into parts. Without memory it counts what the parts take.
class Scratch {
 public:
  explicit Scratch(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}
  void* take(int64_t bytes) {
    void* const here = memory_ ? memory_ + bytes_ : nullptr;
    bytes_ += (bytes + 127) / 128 * 128;
    return here;
  }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* memory_;
  int64_t bytes_ = 0;
};

}  // namespace blockgtq::capi
