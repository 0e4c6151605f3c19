#include "serving_size.h"

#include <algorithm>

namespace blockgtq {

double bytes_per_position(const AttentionShape& shape, int batch, int64_t context, const HeldBytes& held) {
  return double(held(context)) * batch / double(context) + 4.0 * shape.layout.rotary_dim;
}

int64_t longest_context(double memory, double fixed, double each) {
  return std::max<int64_t>(0, int64_t((memory - fixed) / each));
}

double bytes_read(const AttentionShape& shape, int64_t context, const HeldBytes& held) {
  double sum = 0;
  for (int l = 0; l < shape.n_layers; ++l) {
    const int64_t window = shape.window(l);
    sum += double(held(window > 0 ? std::min(window, context) : context)) / shape.n_layers;
  }
  return sum;
}

}  // namespace blockgtq
