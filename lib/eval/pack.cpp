#include "eval/pack.h"

#include <algorithm>

#include "base/parallel.h"
#include "eval/place.h"

namespace blockgtq {

std::vector<PackedHead> pack_layer(const HeadQuantizers& quantizers, const float* k, int64_t n_tokens) {
  std::vector<PackedHead> heads(quantizers.size());
  parallel_for(heads.size(), [&](size_t h) {
    const Quantizer& quantizer = *quantizers[h];
    const int64_t dim = quantizer.dim();
    PackedHead& packed = heads[h];
    packed.code_bytes = quantizer.code_bytes();
    packed.codes.resize(n_tokens * packed.code_bytes);
    std::vector<float> keys(n_tokens * dim), restored(n_tokens * dim);  // (T, D)
    for (int64_t t = 0; t < n_tokens; ++t)
      std::copy_n(k + (t * int64_t(heads.size()) + int64_t(h)) * dim, dim, keys.data() + t * dim);
    at_head(int(h), [&] { quantizer.encode(keys.data(), n_tokens, packed.codes.data()); });
    packed.clipped = quantizer.clipped(packed.codes.data(), n_tokens);
    quantizer.decode(packed.codes.data(), n_tokens, restored.data());
    for (size_t i = 0; i < keys.size(); ++i) {
      const double error = double(keys[i]) - restored[i];
      packed.error += error * error;
      packed.energy += double(keys[i]) * keys[i];
    }
  });
  return heads;
}

}  // namespace blockgtq
