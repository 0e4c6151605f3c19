#pragma once

namespace blockgtq::cuda {

inline constexpr int kNoDevice = -1, kAnyDevice = -2;

/// The device whose memory this is; kAnyDevice for managed memory, kNoDevice for host memory, page-locked or
/// not, and for what CUDA does not know. Asks the driver, which takes part of a microsecond.
int device_of(const void* pointer);

}  // namespace blockgtq::cuda
