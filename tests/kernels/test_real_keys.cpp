// Decode and prefill attention over keys and values of trained models, with the quantizers that their
// calibration makes, against the CPU twin in double precision (lib/cache).
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "base/file.h"
#include "cache/cuda_cache.h"
#include "hf/corpus.h"
#include "kernels/cache/packed_prefill.h"
#include "model/backend.h"
#include "model/model_shape.h"
#include "model/output_moment.h"
#include "model/rotary.h"
#include "quant/bit_map.h"
#include "quant/methods.h"
#include "sequences.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr int64_t kPrefix = 500, kChunk = 90, kTokens = kPrefix + kChunk;

fs::path data_file(const std::string& name) {
  return fs::path(BLOCKGTQ_SOURCE_DIR) / "data" / name;
}

/// Calls visit with every layer of a window of a text, before RoPE.
void forward(const Checkpoint& model, const char* text, const std::function<void(LayerActivations&)>& visit) {
  CorpusSpec corpus;
  corpus.files = {data_file("texts") / text};
  corpus.n_tokens = kTokens;
  const std::vector<int32_t> ids = read_corpus(corpus, model.folder(), model.config().vocab).ids;
  ForwardRequest request;
  request.tokens = ids;
  request.chunk = 0;
  request.on_layer = visit;
  make_cpu_backend()->forward(model, request);
}

/// A model's calibration, and one layer of another text as fp16 holds it.
struct RealLayer {
  AttentionShape shape;
  int layer = 0;
  BitMap map;
  std::vector<float> q, k, v;  // (T, Hq, D), (T, H, D) after RoPE, (T, H, D)
};

RealLayer real_layer(const std::string& name) {
  const Checkpoint model(data_file("models") / name);
  RealLayer out;
  out.shape = attention_shape(model.config(), kTokens);
  out.layer = out.shape.n_layers / 2;
  Stats stats;
  stats.shape = out.shape;
  stats.chunk_tokens = {kTokens};
  for (int l = 0; l < out.shape.n_layers; ++l)
    stats.layers.emplace_back().output = output_moment(layer_weights(model, l).o, out.shape);
  forward(model, "calibration.txt",
          [&](LayerActivations& a) { accumulate(stats, a.layer, 0, a.n_tokens, a.q, a.k, a.v); });
  out.map = make_bit_map(stats, {3});
  forward(model, "evaluation.txt", [&](LayerActivations& a) {
    if (a.layer != out.layer) return;
    const int64_t dim = out.shape.layout.head_dim, q_heads = out.shape.n_heads, heads = out.shape.n_kv_heads;
    const RotaryTable table = rotary_table(model.config(), a.n_tokens);
    const auto rounded_rows = [&](const float* x, int64_t n_heads, bool turned) {
      std::vector<float> rows(x, x + a.n_tokens * n_heads * dim);
      if (turned) rotate(table, rows.data(), a.n_tokens, n_heads * dim, n_heads, dim, a.n_tokens);
      return rounded(rows, cuda::FloatType::f16);
    };
    out.q = rounded_rows(a.q, q_heads, true);
    out.k = rounded_rows(a.k, heads, true);
    out.v = rounded_rows(a.v, heads, false);
  });
  return out;
}

PackedSpec spec_of(const RealLayer& real, const std::string& keys, const std::string& values) {
  PackedSpec spec;
  spec.layout = real.shape.layout;
  spec.inv_freq = real.shape.ropes[0].inv_freq;
  spec.n_heads = real.shape.n_heads;
  for (int h = 0; h < real.shape.n_kv_heads; ++h) {
    const HeadMap head = real.map.head(real.map.budgets[0], real.layer, h);
    const auto key = make_key_quantizer(keys, head), value = make_value_quantizer(values, head);
    spec.key.push_back(paged(key->linear_code().value()));
    spec.value.push_back(paged(value->linear_code().value()));
  }
  return spec;
}

/// Relative errors of decode and of prefill attention.
struct Errors {
  double decode = 0, prefill = 0;
};
Errors errors_of(const RealLayer& real, const std::string& keys, const std::string& values) {
  const PackedCache cache(spec_of(real, keys, values));
  const int64_t dim = real.shape.layout.head_dim, q_width = real.shape.n_heads * dim,
                width = real.shape.n_kv_heads * dim;
  const int64_t n_pages = (kPrefix + kPagePositions - 1) / kPagePositions, page_bytes = cache.shape().bytes;
  std::vector<uint8_t> pages(n_pages * page_bytes, 0xff);
  for (int64_t t = 0; t < kPrefix; ++t)
    cache.write(t, &real.k[t * width], &real.v[t * width], &pages[t / kPagePositions * page_bytes]);
  std::vector<const uint8_t*> list;
  for (int64_t p = 0; p < n_pages; ++p) list.push_back(&pages[p * page_bytes]);

  const cuda::Stream stream;
  std::vector<int32_t> order(n_pages);
  std::iota(order.begin(), order.end(), 0);
  const auto put = [&](const std::vector<float>& x, int64_t each) {  // the chunk's
    return to_device(encode({x.begin() + kPrefix * each, x.end()}, cuda::FloatType::f16), stream);
  };
  const cuda::Buffer on_device = to_device(pages, stream), table = to_device(order, stream),
                     length = to_device(std::vector<int32_t>{int32_t(kPrefix)}, stream);
  const cuda::Buffer q = put(real.q, q_width), k = put(real.k, width), v = put(real.v, width),
                     out = poisoned(kChunk * q_width * 2, stream);
  const CudaCache tables(cache.spec(), kPrefix, stream);
  const cuda::PageTable page_table{on_device.as<uint8_t>(), table.as<int32_t>(), n_pages,
                                   length.as<int32_t>()};
  const float scale = 1 / std::sqrt(float(dim));
  const auto result = [&](int64_t n) {
    return decode(to_host<unsigned char>(out.as(), n * 2, stream), cuda::FloatType::f16);
  };
  const float* new_q = &real.q[kPrefix * q_width];
  Errors errors;

  cuda::DecodeAttention step;
  step.layer = &tables.layer();
  step.cache = page_table;
  step.batch = 1;
  step.longest = kPrefix;
  step.q = q.as();
  step.out = out.as();
  step.scale = scale;
  const cuda::Buffer step_scratch = poisoned(cuda::decode_scratch_bytes(step), stream);
  cuda::decode_attention(step, step_scratch.as(), stream);
  std::vector<double> want(q_width);
  PlainPositions x = cache.read(list, 0, kPrefix);
  attend(x, real.shape.n_heads, 1, new_q, scale, want.data());
  errors.decode = distance(result(q_width), want);

  cuda::PrefillAttention chunk;
  chunk.layer = &tables.layer();
  chunk.cache = page_table;
  chunk.batch = 1;
  chunk.tokens = kChunk;
  chunk.longest = kPrefix;
  chunk.q = q.as();
  chunk.k = k.as();
  chunk.v = v.as();
  chunk.out = out.as();
  chunk.scale = scale;
  const cuda::Buffer chunk_scratch = poisoned(cuda::prefill_scratch_bytes(chunk), stream);
  cuda::prefill_attention(chunk, chunk_scratch.as(), stream);
  want.resize(kChunk * q_width);
  x.k.insert(x.k.end(), real.k.begin() + kPrefix * width, real.k.end());
  x.v.insert(x.v.end(), real.v.begin() + kPrefix * width, real.v.end());
  attend(x, real.shape.n_heads, kChunk, new_q, scale, want.data());
  errors.prefill = distance(result(kChunk * q_width), want);
  return errors;
}

}  // namespace

// What the cache promises of any keys; here logits are large where the model attends sharply, and a mean is
// most of a key.
TEST_CASE("attention over packed keys and values of trained models", "[kernels][packed]") {
  if (!has_device()) return;
  for (const char* name : {"tiny-qwen2", "tiny-qwen2-hd64", "tiny-glm", "tiny-llama3"}) {
    const RealLayer real = real_layer(name);
    for (const char* keys : {"tq-mse", "block-gtq", "block-gtq-cb1"})
      for (const char* values : {"tq-mse", "tq-mse-centred", "klt"}) {
        const Errors errors = errors_of(real, keys, values);
        INFO(fmt::format("{}, layer {}, keys {}, values {}: decode {:.1e}, prefill {:.1e}", name, real.layer,
                         keys, values, errors.decode, errors.prefill));
        CHECK(errors.decode < 2e-3);
        CHECK(errors.prefill < 2e-3);
      }
  }
}
