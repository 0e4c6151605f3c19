#include "serve/cuda_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/forward/bias.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/logits.h"
#include "kernels/forward/norm.h"
#include "kernels/forward/tokens.h"

namespace blockgtq {
namespace {

/// The part of a RoPE table from position `first` on.
cuda::RopeTable behind(cuda::RopeTable table, int64_t first) {
  if (!table.cos) return table;
  table.length -= first;
  table.cos += first * table.layout.n_rotary();
  table.sin += first * table.layout.n_rotary();
  return table;
}

}  // namespace

CudaPrompt::CudaPrompt(const CudaWeights& weights, const CudaKvCache& cache, const CudaSteps& steps,
                       const cuda::Stream& stream, int64_t chunk)
    : weights_(weights),
      cache_(cache),
      steps_(steps),
      stream_(stream),
      chunk_(std::min(chunk, cache.capacity())) {
  check(chunk > 0, "CudaPrompt: a chunk");
  Region counted(nullptr);
  lay_out(weights, chunk_, counted);
  memory_ = cuda::Buffer(size_t(counted.most()));
  Region region(memory_.as<std::byte>());
  ws_ = lay_out(weights, chunk_, region);
  make_scratch(0, chunk_);
  make_scratch(cache.capacity() - chunk_, chunk_);
  const MoeConfig& moe = weights.config().moe;
  if (moe.n_experts > 0)
    routing_ = cuda::PinnedBuffer(size_t(slab() * moe.n_per_token) * 3 * sizeof(int32_t));
}

/// Makes attention's scratch memory, for a chunk of n tokens behind `first`. No work that uses the old one
/// may be in flight.
void CudaPrompt::make_scratch(int64_t first, int64_t n) {
  const auto bytes = size_t(cache_.scratch_bytes(first, n));
  if (bytes <= scratch_.bytes()) return;
  scratch_ = cuda::Buffer();  // frees the old one before the new one is allocated
  scratch_ = cuda::Buffer(bytes);
}

int64_t CudaPrompt::most_bytes(const CudaWeights& weights, const AttentionShape& shape, int64_t context,
                               int64_t chunk) {
  Region counted(nullptr);
  lay_out(weights, std::min(chunk, context), counted);
  cuda::PrefillAttention job;
  const cuda::ExactPages pages{{}, context};
  job.dim = shape.layout.head_dim;
  job.n_heads = shape.n_heads;
  job.n_kv_heads = shape.n_kv_heads;
  job.batch = 1;
  job.tokens = std::min(chunk, context);
  job.exact = &pages;
  constexpr int64_t kOfShorter = int64_t(64) << 20;  // shorter chunks may need more: prefill_scratch_bytes()
  return counted.most() + cuda::prefill_scratch_bytes(job) + kOfShorter + cuda::Blas::kWorkspaceBytes;
}

CudaPrompt::Workspace CudaPrompt::lay_out(const CudaWeights& weights, int64_t chunk, Region& region) {
  const int64_t slab = slab_of(chunk);
  const Config& c = weights.config();
  const int64_t q_cols = int64_t(c.n_heads) * c.head_dim, k_cols = int64_t(c.n_kv_heads) * c.head_dim;
  const auto take_low = [&](int64_t n) { return region.take<std::byte>(n * cuda::bytes_of(weights.type())); };
  Workspace out;
  out.tokens = region.take<int32_t>(chunk);
  out.x = region.take<float>(chunk * c.hidden);
  out.q = region.take<uint16_t>(chunk * q_cols);
  out.heads = region.take<uint16_t>(chunk * q_cols);
  out.k = region.take<uint16_t>(chunk * k_cols);
  out.v = region.take<uint16_t>(chunk * k_cols);
  out.in = take_low(slab * std::max<int64_t>(c.hidden, q_cols));
  if (c.norm_place == NormPlace::parallel) out.normed = take_low(chunk * c.hidden);
  if (c.norm_place == NormPlace::after || c.norm_place == NormPlace::both || c.moe.shared_gate)
    out.out = region.take<float>(slab * c.hidden);
  const int64_t mark = region.mark();  // arrays taken from here on are used one after the other
  out.projected = region.take<float>(slab * std::max(q_cols, k_cols));
  region.rewind(mark);
  RunShape run;
  run.n_tokens = run.chunk = slab;
  run.type = weights.type();
  lay_out_feed_forward(c, run, region, out.feed_forward);
  region.rewind(mark);
  out.logits = region.take<float>(c.vocab);
  return out;
}

void CudaPrompt::read(int b, std::span<const int32_t> tokens, std::span<float> logits) {
  const Config& c = weights_.config();
  int64_t last = 0;  // the last token, within its chunk
  in_pieces(int64_t(tokens.size()), chunk_, [&](int64_t first, int64_t n) {
    check_stop();
    cuda::upload(ws_.tokens, tokens.data() + first, size_t(n) * sizeof(int32_t), stream_);
    cache_.begin_chunk(b, first, n, stream_);
    make_scratch(first, n);
    embed(n);
    for (int l = 0; l < c.n_layers; ++l) {
      attention(l, b, first, n);
      feed_forward(l, n);
    }
    last = n - 1;
  });
  take_logits(ws_.x + last * c.hidden, int64_t(tokens.size()), logits);
}

void CudaPrompt::embed(int64_t n) {
  cuda::EmbedTokens job;
  job.table = weights_.embedding();
  job.type = weights_.type();
  job.hidden = weights_.config().hidden;
  job.factor = float(weights_.config().embedding_multiplier);
  in_pieces(n, slab(), [&](int64_t at, int64_t count) {
    job.batch = int(count);
    job.tokens = ws_.tokens + at;
    job.x = ws_.x + at * job.hidden;
    cuda::embed_tokens(job, stream_);
  });
}

/// x (n, hidden) += attention of a chunk of sequence b, which holds `first` positions before it.
void CudaPrompt::attention(int layer, int b, int64_t first, int64_t n) {
  const Config& c = weights_.config();
  const CudaLayerWeights& w = weights_.layers()[size_t(layer)];
  const int64_t q_cols = int64_t(c.n_heads) * c.head_dim, k_cols = int64_t(c.n_kv_heads) * c.head_dim;
  const cuda::FloatType type = weights_.type();
  const CudaMatrix q = rows_of(w.qkv, 0, q_cols, type), k = rows_of(w.qkv, q_cols, k_cols, type),
                   v = rows_of(w.qkv, q_cols + k_cols, k_cols, type);
  in_pieces(n, slab(), [&](int64_t at, int64_t count) {
    const cuda::RopeTable rope = behind(steps_.rope(layer), first + at);
    const void* const in = input({w.input_norm, w.input_norm_bias}, ws_.x + at * c.hidden, count,
                                 ws_.normed ? low(ws_.normed, at * c.hidden) : ws_.in);
    put_heads(q, in, w.q_norm, rope, count, ws_.q + at * q_cols);
    put_heads(k, in, w.k_norm, rope, count, ws_.k + at * k_cols);
    put_heads(v, in, nullptr, {}, count, ws_.v + at * k_cols);
  });
  cuda::PrefillAttention chunk;
  chunk.tokens = n;
  chunk.q = ws_.q;
  chunk.k = ws_.k;
  chunk.v = ws_.v;
  chunk.out = ws_.heads;
  cache_.attend_chunk(layer, b, first, chunk, scratch_.as(), stream_, w.sinks);
  cache_.fill(layer, b, first, n, ws_.k, ws_.v, stream_);
  in_pieces(n, slab(), [&](int64_t at, int64_t count) {
    const void* in = ws_.heads + at * q_cols;
    if (type != cuda::FloatType::f16) {
      cuda::convert(in, cuda::FloatType::f16, ws_.in, type, count * q_cols, stream_);
      in = ws_.in;
    }
    add_output(w.o, w.attention_norm, in, count, ws_.x + at * c.hidden);
  });
}

/// to (n, heads, D) = heads of `in`, after a norm of each head or of all together (weight null: none) and
/// RoPE (no table: none).
void CudaPrompt::put_heads(const CudaMatrix& m, const void* in, const float* norm_weight,
                           const cuda::RopeTable& rope, int64_t n, uint16_t* to) {
  const Config& c = weights_.config();
  const int64_t dim = c.head_dim, heads = m.rows / dim;
  project(m, in, n, ws_.projected);
  if (norm_weight) {
    cuda::Norm job = norm_of({norm_weight, nullptr}, ws_.projected, n);
    job.centered = false;
    job.dim = job.x_stride = job.y_stride = c.qk_norm == QkNorm::full ? m.rows : dim;
    job.n = n * m.rows / job.dim;
    job.y = ws_.projected;
    cuda::norm(job, stream_);
  }
  if (rope.cos) cuda::rope(rope, {ws_.projected, m.rows, dim}, n, heads, n, stream_);
  cuda::convert(ws_.projected, cuda::FloatType::f32, to, cuda::FloatType::f16, n * m.rows, stream_);
}

/// The logits of x (hidden), the last of n_tokens.
void CudaPrompt::take_logits(const float* x, int64_t n_tokens, std::span<float> logits) {
  const Config& c = weights_.config();
  check(int64_t(logits.size()) == c.vocab, "CudaPrompt: logits");
  const void* const in = input({weights_.final_norm(), weights_.final_norm_bias()}, x, 1, ws_.in);
  project(weights_.head(), in, 1, ws_.logits);
  cuda::finish_logits(ws_.logits, c.vocab, float(c.logits_multiplier), float(c.logits_softcap), stream_);
  cuda::download(logits.data(), ws_.logits, logits.size_bytes(), stream_);
  stream_.synchronize();
  const auto bad = std::find_if(logits.begin(), logits.end(), [](float y) { return !std::isfinite(y); });
  if (bad != logits.end())
    throw Error(Exit::nonfinite,
                fmt::format("logits behind a prompt of {} tokens: token {}: not a finite number", n_tokens,
                            bad - logits.begin()),
                "what is beyond 65504 overflows fp16; --dtype bf16 or fp32");
}

/// The model's norm of n rows, x (n, hidden). The caller still sets the output.
cuda::Norm CudaPrompt::norm_of(const CudaNorm& weights, const float* x, int64_t n) const {
  const Config& c = weights_.config();
  cuda::Norm job;
  job.x = x;
  job.n = n;
  job.dim = job.x_stride = job.y_stride = c.hidden;
  job.weight = weights.weight;
  job.bias = weights.bias;
  job.offset = float(c.norm_offset);
  job.eps = float(c.rms_eps);
  job.centered = c.norm_form == NormForm::layer;
  job.low_type = weights_.type();
  return job;
}

void* CudaPrompt::low(void* x, int64_t first) const {
  return static_cast<std::byte*>(x) + first * cuda::bytes_of(weights_.type());
}

/// The input of a part of a layer: the norm of x (n, hidden), or x itself where there is none. It is written
/// to `in` in the products' type, and to y in float32 where y is not null and there is a norm. Returns in.
const void* CudaPrompt::input(const CudaNorm& weights, const float* x, int64_t n, void* in, float* y) {
  if (weights.weight) {
    cuda::Norm job = norm_of(weights, x, n);
    job.y = y;
    job.low = in;
    cuda::norm(job, stream_);
  } else {
    cuda::convert(x, cuda::FloatType::f32, in, weights_.type(), n * weights_.config().hidden, stream_);
  }
  return in;
}

/// y (n, rows) = x (n, cols) W^T + b, x of the products' type. With `add` y += that, times the residual
/// multiplier.
void CudaPrompt::project(const CudaMatrix& m, const void* x, int64_t n, float* y, bool add) {
  const float scale = add ? float(weights_.config().residual_multiplier) : 1.0f;
  blas_.multiply({m.w, x, y, m.rows, m.cols, n, m.rows, weights_.type(), add, scale}, stream_);
  if (m.bias) cuda::add_bias(y, m.rows, n, m.rows, m.bias, scale, stream_);
}

/// x (n, hidden) += the product of m and `in`, or the norm of it, times the residual multiplier.
void CudaPrompt::add_output(const CudaMatrix& m, const CudaNorm& of_output, const void* in, int64_t n,
                            float* x) {
  if (!of_output.weight) return project(m, in, n, x, true);
  project(m, in, n, ws_.out);
  cuda::Norm job = norm_of(of_output, ws_.out, n);
  job.y = x;
  job.add = true;
  job.scale = float(weights_.config().residual_multiplier);
  cuda::norm(job, stream_);
}

}  // namespace blockgtq
