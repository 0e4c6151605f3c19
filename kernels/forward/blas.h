#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// y (n, rows) = scale x (n, cols) w^T, or += with `add`. w is (rows, cols), or (cols, rows) where
/// `transposed`. Sums are float32. f32 operands are multiplied as float32, never as TF32.
struct Product {
  const void* w = nullptr;  // dense
  const void* x = nullptr;  // dense
  float* y = nullptr;       // rows y_stride apart
  int64_t rows = 0, cols = 0, n = 0, y_stride = 0;
  FloatType type = FloatType::f32;  // of w and x
  bool add = false;
  float scale = 1;
  bool transposed = false;
};

/// "cuBLASLt 13.1.0", or why the library cannot be opened. It opens the library, and never throws.
std::string describe_blas();

/// cuBLASLt with one workspace, for one stream at a time. The algorithm of a shape is chosen once, by the
/// shape alone, and adds partial sums in a fixed order: same inputs, same bits.
class Blas {
 public:
  static constexpr int64_t kWorkspaceBytes = 32 << 20;

  Blas();  // on this thread's device; Exit::device when the library cannot be opened
  Blas(const Blas&) = delete;
  ~Blas();
  void multiply(const Product& product, const Stream& stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq::cuda
