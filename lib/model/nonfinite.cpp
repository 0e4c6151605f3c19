#include "model/nonfinite.h"

#include <algorithm>

#include "base/error.h"
#include "model/elementwise.h"

namespace blockgtq {

namespace {

/// The first row of a tensor that is not finite, -1 where there is none. For a part of a tensor it is counted
/// in the whole tensor as it is stored.
int64_t nonfinite_row(const Checkpoint& model, const Tensor& tensor) {
  constexpr int64_t kBlock = 1 << 18;
  const int64_t n = tensor.elements(),
                row = tensor.shape.empty() ? 1 : std::max<int64_t>(1, n / tensor.shape[0]);
  std::vector<float> buffer(size_t(std::min(n, kBlock)));
  int64_t found = -1;
  for (int64_t first = 0; first < n && found < 0; first += kBlock) {
    const int64_t count = std::min(kBlock, n - first);
    tensor.read(first, count, buffer.data());
    const int64_t at = first_nonfinite(buffer.data(), count);
    if (at < count) found = (first + at) / row;
  }
  model.release(tensor);
  if (found < 0) return -1;
  return model.find(tensor.name)->stored_row(tensor.first_row + found);
}

}  // namespace

void require_finite(const Checkpoint& model, const Tensor& weight) {
  const int64_t row = nonfinite_row(model, weight);
  if (row >= 0)
    throw Error(Exit::nonfinite, fmt::format("{}: {}: row {}: not finite", model.file_of(weight).string(),
                                             model.label(weight.name), row));
}

void require_finite(const Checkpoint& model, const float* x, int64_t n, int64_t cols, const std::string& what,
                    const std::vector<const Tensor*>& weights, int64_t first_token) {
  const int64_t at = first_nonfinite(x, n * cols);
  if (at == n * cols) return;
  for (const Tensor* tensor : weights) require_finite(model, *tensor);
  throw Error(
      Exit::nonfinite,
      fmt::format("{}: {}: token {}: not finite", model.folder().string(), what, first_token + at / cols),
      "the weights are finite: the activations overflow float32");
}

}  // namespace blockgtq
