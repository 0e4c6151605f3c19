// Gated delta nets on a GPU, which some layers have in place of attention. delta_net.cpp is the CPU
// implementation.
#include "kernels/forward/activation.h"
#include "kernels/forward/delta_net.h"
#include "kernels/forward/heads.h"
#include "model/cuda_decoder.h"

namespace blockgtq {

/// Projections of tokens [first, first + n): q, k and v to `mixed`, z next to where the heads' results will
/// be, a and b.
void CudaDecoder::project_delta(const DeltaWeights& w, const void* in, int64_t first, int64_t n) {
  const DeltaConfig& d = config().delta;
  const DeltaWorkspace& ws = ws_.delta;
  const int64_t heads = d.n_value_heads, group = heads / d.n_key_heads, key_dim = d.key_dim,
                dim = d.value_dim;
  const int64_t keys = d.n_key_heads * key_dim, values = heads * dim, mixed_cols = 2 * keys + values;
  float *mixed = ws.mixed + first * mixed_cols, *z = ws.gated + first * 2 * values, *a = ws.a + first * heads,
        *b = ws.b + first * heads;
  if (!d.fused) {
    linear(w.in[0], in, n, mixed);
    linear(w.in[1], in, n, ws.projected);
    cuda::copy_heads({ws.projected, values, dim}, {z, 2 * values, 2 * dim}, n, heads, dim, stream_);
    linear(w.in[2], in, n, b);
    linear(w.in[3], in, n, a);
    return;
  }
  // q, k, v and z of a key head and its value heads are adjacent, and so are b and a.
  const int64_t cols = mixed_cols + values, block = 2 * key_dim + 2 * group * dim;
  const auto part = [&](int64_t at) { return cuda::ConstHeads{ws.projected + at, cols, block}; };
  linear(w.in[0], in, n, ws.projected);
  cuda::copy_heads(part(0), {mixed, mixed_cols, key_dim}, n, d.n_key_heads, key_dim, stream_);
  cuda::copy_heads(part(key_dim), {mixed + keys, mixed_cols, key_dim}, n, d.n_key_heads, key_dim, stream_);
  cuda::copy_heads(part(2 * key_dim), {mixed + 2 * keys, mixed_cols, group * dim}, n, d.n_key_heads,
                   group * dim, stream_);
  for (int64_t g = 0; g < group; ++g)
    cuda::copy_heads(part(2 * key_dim + (group + g) * dim), {z + g * 2 * dim, 2 * values, group * 2 * dim}, n,
                     d.n_key_heads, dim, stream_);
  linear(w.in[1], in, n, ws.projected);
  cuda::copy_heads({ws.projected, 2 * heads, 2 * group}, {b, heads, group}, n, d.n_key_heads, group, stream_);
  cuda::copy_heads({ws.projected + group, 2 * heads, 2 * group}, {a, heads, group}, n, d.n_key_heads, group,
                   stream_);
}

void CudaDecoder::delta_net(const ResidentLayer& layer, bool stop) {
  require_finite(pending_);  // x changes now, and the next layer that is checked may be far away
  pending_.clear();
  if (stop) return;
  const Config& c = config();
  const DeltaConfig& d = c.delta;
  const DeltaWeights& w = *layer.weights.delta;
  const DeltaWorkspace& ws = ws_.delta;
  const int64_t n = run_.n_tokens, heads = d.n_value_heads, dim = d.value_dim;
  const int64_t mixed_cols = 2 * int64_t(d.n_key_heads) * d.key_dim + heads * dim;
  for (int64_t first = 0; first < n; first += run_.slab()) {
    const int64_t count = std::min(run_.slab(), n - first);
    project_delta(w, attention_input(layer.weights, first, count), first, count);
  }
  cuda::convolve({ws.mixed, floats(w.conv), n, run_.chunk, mixed_cols, d.kernel, ws.convolved}, stream_);
  float* results = ws.gated + dim;  // next to z
  cuda::delta_rule({n, run_.chunk, d.n_key_heads, heads, d.key_dim, dim, ws.convolved, ws.a, ws.b,
                    floats(w.decay), floats(w.dt_bias), results, 2 * dim},
                   stream_);
  cuda::Norm norm = prepare_norm(w.norm, c.rms_eps, results, n * heads);
  norm.y = results;
  norm.x_stride = norm.y_stride = 2 * dim;
  cuda::norm(norm, stream_);
  cuda::GatedRows rows;
  rows.x = ws.gated;
  rows.n = n * heads;
  rows.width = dim;
  rows.out = ws.heads;
  rows.type = run_.type;
  cuda::activate(rows, stream_);
  add_output(w.out, layer.weights.attention_norm, ws.heads, n, ws_.x);
}

}  // namespace blockgtq
