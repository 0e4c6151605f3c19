#include "serve/cuda_steps.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/forward/logits.h"
#include "kernels/forward/tokens.h"
#include "model/rotary.h"

namespace blockgtq {
namespace {

cuda::Buffer floats(int64_t n) {
  return cuda::Buffer(size_t(n) * sizeof(float));
}
cuda::Buffer halves(int64_t n) {
  return cuda::Buffer(size_t(n) * sizeof(uint16_t));
}
cuda::Buffer words(int64_t n) {
  return cuda::Buffer(size_t(n) * sizeof(int32_t));
}

cuda::RopeTable upload_rope(const Config& config, int64_t length, bool local, cuda::Buffer (&memory)[4],
                            const cuda::Stream& stream) {
  const RotaryTable table = rotary_table(config, length, local);
  cuda::Buffer &cos = memory[local ? 2 : 0], &sin = memory[local ? 3 : 1];
  cos = floats(int64_t(table.cos.size()));
  sin = floats(int64_t(table.sin.size()));
  cuda::upload(cos.as(), table.cos.data(), cos.bytes(), stream);
  cuda::upload(sin.as(), table.sin.data(), sin.bytes(), stream);
  stream.synchronize();  // the copies read arrays of the host, which end here
  return {table.layout, table.length, cos.as<float>(), sin.as<float>()};
}

}  // namespace

CudaSteps::CudaSteps(const CudaWeights& weights, const CudaKvCache& cache, const cuda::Stream& stream)
    : weights_(weights), cache_(cache), stream_(stream) {
  const Config& c = weights.config();
  const int64_t n = cache.batch(), dim = c.head_dim;
  check(n <= cuda::kMaxVectors, "CudaSteps: batch");
  const int64_t widest = std::max(c.hidden, c.n_heads * c.head_dim) * n * cuda::bytes_of(weights.type());
  if (widest > cuda::max_vector_bytes())
    throw Error(Exit::device,
                fmt::format("a step of {} sequences: {} bytes of shared memory needed, at most {}", n, widest,
                            cuda::max_vector_bytes()),
                "fewer sequences, or --dtype bf16");
  rope_ = upload_rope(c, cache.capacity(), false, angles_, stream);
  if (c.local_rope) local_rope_ = upload_rope(c, cache.capacity(), true, angles_, stream);
  x_ = floats(n * c.hidden);
  projected_ = floats(n * (c.n_heads + 2 * c.n_kv_heads) * dim);
  q_ = halves(n * c.n_heads * dim);
  heads_ = halves(n * c.n_heads * dim);
  make_room();
  logits_ = floats(n * c.vocab);
  best_ = cuda::Buffer(size_t(n * cuda::n_candidates(c.vocab)) * sizeof(cuda::Candidate));
  tokens_ = words(n);
  faults_ = words(n);
  words_ = cuda::PinnedBuffer(size_t(2 * n) * sizeof(int32_t));
  set(std::vector<int32_t>(size_t(n)), std::vector<int32_t>(size_t(n)));
}

void CudaSteps::set_tokens(std::span<const int32_t> tokens) {
  check(int(tokens.size()) == cache_.batch(), "CudaSteps: a token per sequence");
  stream_.synchronize();  // until words_ is free
  std::copy(tokens.begin(), tokens.end(), words_.as<int32_t>());
  cuda::upload(tokens_.as(), words_.as(), tokens_.bytes(), stream_);
}

void CudaSteps::set(std::span<const int32_t> tokens, std::span<const int32_t> positions) {
  check(int(positions.size()) == cache_.batch(), "CudaSteps: a position per sequence");
  set_tokens(tokens);
  int32_t* const free = words_.as<int32_t>() + cache_.batch();
  idle_.resize(positions.size());
  for (size_t b = 0; b < positions.size(); ++b) {
    idle_[b] = positions[b] == kIdle;
    free[b] = idle_[b] ? 0 : positions[b];
  }
  cuda::upload(cache_.positions(), free, tokens_.bytes(), stream_);
  cuda::fill_zero(faults_.as(), faults_.bytes(), stream_);
}

void CudaSteps::step(int64_t longest) {
  check(longest > 0 && longest <= cache_.capacity(), "CudaSteps: a sequence longer than the cache");
  if (longest > graph_longest_ || !graph_) {
    // The graph is laid out for the longest sequence, with room for some more tokens, so that it serves them
    // all.
    const int64_t most = std::min(cache_.capacity(), longest + std::max<int64_t>(256, longest / 16));
    graph_.reset();
    graph_ = std::make_unique<cuda::Graph>(stream_, [&] { launch(most); });
    graph_longest_ = most;
  }
  graph_->replay(stream_);
}

void CudaSteps::launch(int64_t longest) {
  const Config& c = weights_.config();
  cuda::EmbedTokens embed;
  embed.table = weights_.embedding();
  embed.type = weights_.type();
  embed.hidden = c.hidden;
  embed.batch = cache_.batch();
  embed.tokens = tokens_.as<int32_t>();
  embed.factor = float(c.embedding_multiplier);
  embed.x = x_.as<float>();
  cache_.begin_step(stream_);
  cuda::embed_tokens(embed, stream_);
  for (int l = 0; l < c.n_layers; ++l) {
    attention(l, longest);
    feed_forward(weights_.layers()[size_t(l)]);
  }

  cuda::MatVec head = normed(weights_.final_norm(), weights_.final_norm_bias());
  head.y = logits_.as<float>();
  head.best = best_.as<cuda::Candidate>();
  project(weights_.head(), head);
  cuda::ChooseTokens choose;
  choose.best = best_.as<cuda::Candidate>();
  choose.n = cuda::n_candidates(c.vocab);
  choose.batch = cache_.batch();
  choose.tokens = tokens_.as<int32_t>();
  choose.positions = cache_.positions();
  choose.faults = faults_.as<int32_t>();
  cuda::choose_tokens(choose, stream_);
}

/// The model's norm of consecutive rows of `dim` values.
cuda::Norm CudaSteps::norm_of(const float* x, int64_t dim, const float* weight) const {
  const Config& c = weights_.config();
  cuda::Norm norm;
  norm.x = x;
  norm.n = cache_.batch();
  norm.dim = norm.x_stride = norm.y_stride = dim;
  norm.weight = weight;
  norm.offset = float(c.norm_offset);
  norm.eps = float(c.rms_eps);
  return norm;
}

/// The vectors that a part of the model reads: the norm of x, or x itself where weight is null. RMS norms are
/// fused into the product. Other norms, and a norm that two parts read, are computed into normed_.
cuda::MatVec CudaSteps::normed(const float* weight, const float* bias) {
  const Config& c = weights_.config();
  cuda::MatVec job;
  job.x = x_.as<float>();
  if (!normed_.as() || !weight) {
    job.norm_weight = weight;
    return job;
  }
  cuda::Norm norm = norm_of(x_.as<float>(), c.hidden, weight);
  norm.bias = bias;
  norm.centered = c.norm_form == NormForm::layer;
  norm.y = normed_.as<float>();
  cuda::norm(norm, stream_);
  job.x = normed_.as<float>();
  return job;
}

/// The job for matrix m, with what all products of a model have in common.
cuda::MatVec CudaSteps::product(const CudaMatrix& m, cuda::MatVec job) const {
  const Config& c = weights_.config();
  job.w = m.w;
  job.type = weights_.type();
  job.rows = m.rows;
  job.cols = m.cols;
  job.n = cache_.batch();
  job.bias = m.bias;
  job.norm_offset = float(c.norm_offset);
  job.norm_eps = float(c.rms_eps);
  if (job.add) job.scale = float(c.residual_multiplier);
  return job;
}

void CudaSteps::project(const CudaMatrix& m, const cuda::MatVec& job) {
  cuda::matvec(product(m, job), stream_);
}

/// x += the product of m and the job's vectors, or the norm of it.
void CudaSteps::add_output(const CudaMatrix& m, cuda::MatVec job, const CudaNorm& of_output) {
  const Config& c = weights_.config();
  job.y = of_output.weight ? out_.as<float>() : x_.as<float>();
  job.add = !of_output.weight;
  project(m, job);
  if (!of_output.weight) return;
  cuda::Norm norm = norm_of(out_.as<float>(), c.hidden, of_output.weight);
  norm.bias = of_output.bias;
  norm.centered = c.norm_form == NormForm::layer;
  norm.y = x_.as<float>();
  norm.add = true;
  norm.scale = float(c.residual_multiplier);
  cuda::norm(norm, stream_);
}

void CudaSteps::attention(int l, int64_t longest) {
  const Config& c = weights_.config();
  const CudaLayerWeights& w = weights_.layers()[size_t(l)];
  cuda::MatVec qkv = normed(w.input_norm, w.input_norm_bias);
  qkv.y = projected_.as<float>();
  project(w.qkv, qkv);

  cuda::AppendToken token;
  token.projected = projected_.as<float>();
  if (c.qk_norm == QkNorm::full) {
    const int64_t q_width = int64_t(c.n_heads) * c.head_dim, k_width = int64_t(c.n_kv_heads) * c.head_dim;
    cuda::Norm of_q = norm_of(projected_.as<float>(), q_width, w.q_norm),
               of_k = norm_of(projected_.as<float>() + q_width, k_width, w.k_norm);
    for (cuda::Norm* const norm : {&of_q, &of_k}) {
      norm->x_stride = norm->y_stride = w.qkv.rows;
      norm->y = const_cast<float*>(norm->x);
      cuda::norm(*norm, stream_);
    }
  } else {
    token.q_norm = w.q_norm;
    token.k_norm = w.k_norm;
  }
  token.norm_offset = float(c.norm_offset);
  token.norm_eps = float(c.rms_eps);
  token.rope = rope(l);
  token.q = q_.as();
  cache_.attend(l, token, heads_.as(), longest, stream_, w.sinks);

  cuda::MatVec o;
  o.x_half = heads_.as();
  add_output(w.o, o, w.attention_norm);
}

void CudaSteps::wait() {
  const auto n = size_t(cache_.batch());
  cuda::download(words_.as(), tokens_.as(), n * sizeof(int32_t), stream_);
  cuda::download(words_.as<int32_t>() + n, faults_.as(), n * sizeof(int32_t), stream_);
  stream_.synchronize();
  for (size_t b = 0; b < n; ++b)
    if (const int32_t fault = words_.as<int32_t>()[n + b]; fault > 0 && !idle_[b])
      throw Error(Exit::nonfinite,
                  fmt::format("logits of sequence {}: token {}: not a finite number", b, fault - 1),
                  "what is beyond 65504 overflows fp16; --dtype bf16 or fp32");
}

std::span<const int32_t> CudaSteps::tokens() const {
  return {words_.as<int32_t>(), size_t(cache_.batch())};
}

void CudaSteps::logits(float* to) {
  const Config& c = weights_.config();
  const int64_t n = cache_.batch() * int64_t(c.vocab);
  cuda::finish_logits(logits_.as<float>(), n, float(c.logits_multiplier), float(c.logits_softcap), stream_);
  cuda::download(to, logits_.as(), size_t(n) * sizeof(float), stream_);
  wait();
}

cuda::RopeTable CudaSteps::rope(int layer) const {
  switch (weights_.config().layer_attention[size_t(layer)].rotation) {
    case LayerAttention::Rotation::none:
      return {};
    case LayerAttention::Rotation::local:
      return local_rope_;
    default:
      return rope_;
  }
}

}  // namespace blockgtq
