#include "eval/quantized_cache.h"
#include "kernels/device.h"

namespace blockgtq {

int64_t cuda_requantize(CachedLayer layer, int64_t k_width, int64_t v_width, void* stream) {
  const cuda::Stream order(stream);
  std::vector<float> k(size_t(layer.n_tokens * k_width)), v(layer.v ? size_t(layer.n_tokens * v_width) : 0);
  float *device_k = layer.k, *device_v = layer.v;
  cuda::download_now(k.data(), device_k, k.size() * sizeof(float), stream);
  if (device_v) cuda::download_now(v.data(), device_v, v.size() * sizeof(float), stream);
  layer.k = k.data();
  layer.v = device_v ? v.data() : nullptr;
  const int64_t clipped = requantize(layer);
  cuda::upload(device_k, k.data(), k.size() * sizeof(float), order);
  if (device_v) cuda::upload(device_v, v.data(), v.size() * sizeof(float), order);
  order.synchronize();  // before the host's copies go
  return clipped;
}

}  // namespace blockgtq
