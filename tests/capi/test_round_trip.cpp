// Keys and values into pages and back, against the C++ implementation of pages.
#include "cache/exact_cache.h"
#include "cache/layer_cache.h"
#include "capi/served.h"
#include "serve/cache_spec.h"
#include "serve/packed_specs.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// What the C++ interface makes of the same map.
PackedSpec spec_of(const Kind& kind, int layer) {
  CacheSpec spec;
  spec.k_method = kind.key_method ? kind.key_method : "";
  spec.v_method = kind.value_method ? kind.value_method : "";
  const bool trellis = kind.code != nullptr;
  name_page_methods(spec.k_method, spec.v_method, trellis);
  spec.bits = parse_pair(kind.pair, "pair");
  spec.code = code_of(spec.bits, trellis ? Code::trellis : Code::scalar);
  const BitMap& map = sample_map(kind.dim).map();
  PackedSpec all =
      packed_specs(make_cache(spec, map.shape, &map, Codebook::by_method), map.shape, "test")[size_t(layer)];
  if (kind.kv_heads == 0) return all;
  const auto part = [&](std::vector<LinearCode>& side) {
    side = {side.begin() + kind.first_kv_head, side.begin() + kind.first_kv_head + kind.kv_heads};
  };
  part(all.key);
  part(all.value);
  all.n_heads = kHeads / kKvHeads * kind.kv_heads;
  return all;
}

struct Twin {
  std::vector<std::vector<uint8_t>> pages;
  std::vector<double> k, v;  // what they hold
};
/// Sequence b of k and v (B, T, H, D), page by page.
Twin twin_of(const Kind& kind, const Served& served, const std::vector<float>& k, const std::vector<float>& v,
             int b, int64_t tokens) {
  const int64_t width = served.width();
  const ExactCache exact(served.description.n_kv_heads, kind.dim);
  const auto packed = kind.packed ? make_layer_cache(spec_of(kind, served.layer)) : nullptr;
  Twin twin;
  for (int64_t t = 0; t < tokens; ++t) {
    if (t % kPage == 0)
      twin.pages.emplace_back(size_t(kind.packed ? packed->page_bytes() : exact.page_bytes()), uint8_t(0xff));
    const float *key = &k[size_t((b * tokens + t) * width)], *value = &v[size_t((b * tokens + t) * width)];
    packed ? packed->write(t, key, value, twin.pages.back().data())
           : exact.write(t, key, value, twin.pages.back().data());
  }
  twin.k.resize(size_t(tokens * width));
  twin.v.resize(twin.k.size());
  for (int64_t t = 0; t < tokens; ++t) {
    const uint8_t* page = twin.pages[size_t(t / kPage)].data();
    packed ? packed->read(t, page, &twin.k[size_t(t * width)], &twin.v[size_t(t * width)])
           : exact.read(t, page, &twin.k[size_t(t * width)], &twin.v[size_t(t * width)]);
  }
  return twin;
}

std::vector<float> tokens_of(const std::vector<float>& x, int batch, int64_t all, int64_t width,
                             int64_t first, int64_t n) {
  std::vector<float> out;
  for (int b = 0; b < batch; ++b) {
    const auto at = x.begin() + (b * all + first) * width;
    out.insert(out.end(), at, at + n * width);
  }
  return out;
}

std::vector<float> sequence_of(const std::vector<float>& x, int b, int64_t n) {
  return {x.begin() + b * n, x.begin() + (b + 1) * n};
}

}  // namespace

TEST_CASE("a prompt and tokens behind it are in pages as the C++ interface writes them", "[capi]") {
  for (const std::string& device : devices())
    for (const Kind& kind : kinds()) {
      INFO(device << ": " << text(kind));
      constexpr int64_t kTokens = 150, kPrompt = 146;
      Served served(kind, device, 2, kTokens);
      const int64_t width = served.width(), n = 2 * kTokens * width;
      const auto k = rounded(served.normal(n), BLOCKGTQ_F16), v = rounded(served.normal(n), BLOCKGTQ_F16);
      served.encode(tokens_of(k, 2, kTokens, width, 0, kPrompt), tokens_of(v, 2, kTokens, width, 0, kPrompt),
                    kPrompt, {0, 0});
      for (int32_t t = kPrompt; t < kTokens; ++t)
        served.encode(tokens_of(k, 2, kTokens, width, t, 1), tokens_of(v, 2, kTokens, width, t, 1), 1,
                      {t, t});
      const auto held = served.read(0, kTokens);
      for (int b = 0; b < 2; ++b) {
        const Twin twin = twin_of(kind, served, k, v, b, kTokens);
        if (device == "cpu")
          for (size_t i = 0; i < twin.pages.size(); ++i) CHECK(served.page(b, int64_t(i)) == twin.pages[i]);
        // Float32 holds what is read in double. On a GPU a code may be the neighbour where both are equally
        // near, a coordinate in a thousand: by a step of the codebook, a few times the error that all have.
        const double bound = device == "cpu" ? 1e-6 : kind.packed ? 0.1 : 1e-6;
        CHECK(distance(sequence_of(held.k, b, kTokens * width), twin.k) < bound);
        CHECK(distance(sequence_of(held.v, b, kTokens * width), twin.v) < bound);
      }
    }
}

TEST_CASE("types and strides make no difference to pages", "[capi]") {
  for (const std::string& device : devices())
    for (const Kind& kind : {kinds()[0], kinds()[2], kinds()[6]}) {
      INFO(device << ": " << text(kind));
      constexpr int64_t kTokens = 70;
      Served served(kind, device, 1, kTokens);
      const int64_t width = served.width(), dim = kind.dim, heads = served.description.n_kv_heads;
      // Numbers that all types hold.
      const auto k = rounded(served.normal(kTokens * width), BLOCKGTQ_BF16),
                 v = rounded(served.normal(kTokens * width), BLOCKGTQ_BF16);
      served.encode(k, v, kTokens, {0}, BLOCKGTQ_F16);
      const auto want = std::pair(served.page(0, 0), served.page(0, 1));
      const auto spoil = [&] {
        const std::vector<uint8_t> ones(size_t(served.n_pages * served.of_layer.page_pitch), 0xff);
        served.page_memory->put(ones.data(), ones.size());
      };
      for (const blockgtq_dtype type : {BLOCKGTQ_BF16, BLOCKGTQ_F32}) {
        spoil();
        served.encode(k, v, kTokens, {0}, type);
        CHECK(std::pair(served.page(0, 0), served.page(0, 1)) == want);
      }
      // Keys as (H, T, D), values with room behind every token; an address that is not aligned to words.
      spoil();
      std::vector<float> by_head(k.size()), apart(1 + size_t(kTokens * (width + 3)));
      for (int64_t t = 0; t < kTokens; ++t)
        for (int64_t i = 0; i < width; ++i) {
          by_head[size_t((i / dim * kTokens + t) * dim + i % dim)] = k[size_t(t * width + i)];
          apart[size_t(1 + t * (width + 3) + i)] = v[size_t(t * width + i)];
        }
      Array keys = served.array(by_head, BLOCKGTQ_F16), values = served.array(apart, BLOCKGTQ_F32);
      keys.tensor.stride_token = dim;
      keys.tensor.stride_head = kTokens * dim;
      keys.tensor.stride_sequence = heads * kTokens * dim;
      values.tensor.data = values.memory->as<float>() + 1;
      values.tensor.stride_token = width + 3;
      values.tensor.stride_head = dim;
      const auto starts = served.place.memory(std::vector<int32_t>{0});
      blockgtq_encode_args args = served.encode_args(keys, values, kTokens, *starts);
      const auto scratch = served.give_scratch(args, blockgtq_encode_scratch);
      REQUIRE(blockgtq_encode(served.cache, &args) == BLOCKGTQ_OK);
      CHECK(std::pair(served.page(0, 0), served.page(0, 1)) == want);
    }
}

TEST_CASE("numbers beyond fp16 are clipped on their way into fp16 pages", "[capi]") {
  for (const std::string& device : devices())
    for (const blockgtq_dtype type : {BLOCKGTQ_BF16, BLOCKGTQ_F32}) {
      INFO(device << ", type " << type);
      Served served(kinds()[0], device, 1, 1);
      std::vector<float> k(size_t(served.width()), 1.0f), v = k;
      k[3] = 1e6f;
      v[5] = -1e6f;
      served.encode(k, v, 1, {0}, type);
      k[3] = 65504;
      v[5] = -65504;
      const auto held = served.read(0, 1);
      CHECK(held.k == k);
      CHECK(held.v == v);
    }
}

TEST_CASE("heads of a tensor-parallel rank are those of the whole", "[capi]") {
  Kind kind = kinds()[2];
  Served whole(kind, "cpu", 1, 10);
  const int64_t dim = kind.dim;
  const auto k = whole.normal(10 * whole.width()), v = whole.normal(10 * whole.width());
  whole.encode(k, v, 10, {0}, BLOCKGTQ_F32);
  const auto want = whole.read(0, 10);
  kind.first_kv_head = 1;
  kind.kv_heads = 1;
  Served part(kind, "cpu", 1, 10);
  CHECK(part.description.n_heads == kHeads / kKvHeads);
  CHECK(part.of_layer.page_bytes < whole.of_layer.page_bytes);
  const auto head = [&](const std::vector<float>& x) {
    std::vector<float> out;
    for (int64_t t = 0; t < 10; ++t)
      out.insert(out.end(), x.begin() + (2 * t + 1) * dim, x.begin() + (2 * t + 2) * dim);
    return out;
  };
  part.encode(head(k), head(v), 10, {0}, BLOCKGTQ_F32);
  const auto got = part.read(0, 10);
  CHECK(got.k == head(want.k));
  CHECK(got.v == head(want.v));
}
