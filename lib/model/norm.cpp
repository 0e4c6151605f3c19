#include "model/norm.h"

#include <cmath>

#include "model/elementwise.h"
#include "model/share.h"

namespace blockgtq {

namespace {

/// y_t = (x_t - mean) / sqrt(variance + eps) * weight + bias
void layer_norm(const Norm& norm, double eps, const float* x, int64_t n, float* y) {
  constexpr int64_t kRows = 16;
  const int64_t dim = norm.weight.elements();
  std::vector<float> weight(static_cast<size_t>(dim)), bias(static_cast<size_t>(dim), 0.0f);
  norm.weight.read(0, dim, weight.data());
  if (norm.bias) norm.bias->read(0, dim, bias.data());
  share(size_t((n + kRows - 1) / kRows), 2.0 * double(n * dim), [&](size_t piece) {
    for (int64_t t = int64_t(piece) * kRows; t < std::min(n, (int64_t(piece) + 1) * kRows); ++t) {
      const float* in = x + t * dim;
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < dim; ++i) sum += double(in[i]);
      const double mean = sum / double(dim);
      for (int64_t i = 0; i < dim; ++i) squares += (double(in[i]) - mean) * (double(in[i]) - mean);
      const double scale = 1 / std::sqrt(squares / double(dim) + eps);
      for (int64_t i = 0; i < dim; ++i)
        y[t * dim + i] = float((double(in[i]) - mean) * scale) * weight[size_t(i)] + bias[size_t(i)];
    }
  });
}

}  // namespace

void apply_norm(const Config& config, const Norm& norm, const float* x, int64_t n, float* y) {
  const int64_t dim = norm.weight.elements();
  if (config.norm_form == NormForm::layer) {
    layer_norm(norm, config.rms_eps, x, n, y);
  } else {
    rms_norm(norm.weight, config.rms_eps, x, dim, n, y, dim, config.norm_offset);
  }
}

}  // namespace blockgtq
