#include "store/file_sizes.h"

#include <algorithm>
#include <bit>

#include "quant/stats.h"

namespace blockgtq {

int64_t acts_bytes(const AttentionShape& shape, int64_t n_tokens, int number_bytes) {
  const int64_t per_token = int64_t(shape.n_heads + shape.n_kv_heads) * shape.layout.head_dim +
                            int64_t(shape.n_kv_heads) * shape.v_dim;
  const int64_t output = int64_t(shape.n_kv_heads) * shape.v_dim * shape.v_dim * 8;  // moments of W_o
  return shape.n_layers * (n_tokens * per_token * number_bytes + output);
}

int64_t stats_bytes(const AttentionShape& shape, int64_t n_tokens, int64_t chunk) {
  const int64_t chunks = (n_tokens + chunk - 1) / chunk, dim = shape.layout.head_dim, v_dim = shape.v_dim;
  const int64_t sums = 2 * shape.layout.n_blocks() + dim + v_dim;  // of a chunk
  const int64_t nodes = std::popcount(uint64_t(chunks));           // of sums over all chunks
  const int64_t sample = std::min(n_tokens, sample_tokens(shape));
  const int64_t per_head =
      8 * (chunks * sums + nodes * (dim * dim + v_dim * v_dim) + v_dim * v_dim) + 4 * sample * (dim + v_dim);
  return int64_t(shape.n_layers) * shape.n_kv_heads * per_head;
}

}  // namespace blockgtq
