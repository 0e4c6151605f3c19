// Texts that grow over caches of several kinds: on the CPU against the forward pass, on a GPU against the
// CPU.
#include <cmath>

#include "base/error.h"
#include "quant/k_means.h"
#include "quant/linear_quantizer.h"
#include "serve/chunked_prompts.h"
#include "serve/over_pages.h"
#include "serve/paged_sequence.h"
#include "serve/plain_cache.h"
#include "serve/simulated_sequence.h"
#ifdef BLOCKGTQ_CUDA
#include "serve/cuda_kv_cache.h"
#endif

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

int32_t likeliest(std::span<const float> logits) {
  return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

const std::vector<std::string> kServed = {"tiny-llama",      "tiny-llama3",     "tiny-mistral",
                                          "tiny-qwen2",      "tiny-qwen3",      "tiny-glm",
                                          "tiny-qwen2-gqa8", "tiny-qwen2-hd64", "tiny-qwen3-moe"};

}  // namespace

TEST_CASE("pages in fp16 give the forward pass' logits", "[sequence]") {
  for (const std::string name : {"tiny-qwen2", "tiny-glm"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const AttentionShape shape = attention_shape(model.config(), 1);
    const std::vector<int32_t> tokens = some_tokens(80, model.config().vocab);
    const std::vector<float> whole = run_forward(model, tokens, 0).logits;
    const auto paged = make_paged_sequence(model, shape, {}, 80);
    const auto got = run(*paged, std::span(tokens).first(60), std::span(tokens).subspan(60));
    const auto vocab = size_t(model.config().vocab);
    for (size_t i = 0; i < got.size(); ++i)  // fp16 has 11 bits
      CHECK(relative_distance(got[i], std::span(whole).subspan((59 + i) * vocab, vocab)) < 2e-3);
    CHECK(paged->cache_bytes() == 2 * 64 * shape.n_layers * shape.n_kv_heads * shape.layout.head_dim * 2 * 2);
  }
}

TEST_CASE("packed pages: exact positions stay, others come back as their codes", "[sequence]") {
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<int32_t> tokens = some_tokens(300, model.config().vocab);
  const QuantizedCache cache = plain_cache(shape, 3, "tq-mse");
  const std::vector<PackedSpec> specs = packed_specs(cache, shape, "K3V3");
  const auto error = [&](const ExactWindow& exact) {
    const auto all = run(*make_paged_sequence(model, shape, {{}, {}}, 300), std::span(tokens).first(200),
                         std::span(tokens).subspan(200));
    const auto got = run(*make_paged_sequence(model, shape, {specs, exact}, 300),
                         std::span(tokens).first(200), std::span(tokens).subspan(200));
    double sum = 0;
    CHECK(relative_distance(got[0], all[0]) < 1e-6);  // the prompt is exact
    for (size_t i = 1; i < got.size(); ++i) sum += relative_distance(got[i], all[i]);
    return sum / double(got.size() - 1);
  };
  const double packed = error({});
  CHECK(packed > 0.01);
  CHECK(error({64, 64}) < 0.9 * packed);
  CHECK(error({320, 0}) < 1e-6);
  CHECK(error({0, 300}) < 1e-6);
}

TEST_CASE("a prompt in chunks: over pages of fp16 all sizes give the same", "[sequence]") {
  for (const std::string name : {"tiny-qwen2", "tiny-glm", "tiny-qwen3"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const AttentionShape shape = attention_shape(model.config(), 1);
    const std::vector<int32_t> tokens = some_tokens(310, model.config().vocab);
    const auto in_chunks = [&](int64_t chunk) {
      return run(*make_paged_sequence(model, shape, {}, 310, chunk), std::span(tokens).first(300),
                 std::span(tokens).subspan(300));
    };
    const auto whole = in_chunks(2048);
    CHECK(in_chunks(300) == whole);
    for (const int64_t chunk : {1, 64, 100, 299}) {
      INFO(chunk);
      const auto got = in_chunks(chunk);
      for (size_t i = 0; i < got.size(); ++i) CHECK(relative_distance(got[i], whole[i]) < 1e-3);  // fp16
    }
  }
}

TEST_CASE("a chunk attends to what packed pages gave back of those before", "[sequence]") {
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<int32_t> tokens = some_tokens(330, model.config().vocab);
  struct Case {
    std::string keys;
    ExactWindow exact;
    int64_t chunk;
  };
  std::vector<Case> cases = {{"trellis", {}, 100}, {"trellis", {64, 64}, 64}};
  for (const ExactWindow exact :
       {ExactWindow{}, ExactWindow{64, 64}, ExactWindow{0, 100}, ExactWindow{64, 0}})
    for (const int64_t chunk : {64, 100}) cases.push_back({"tq-mse", exact, chunk});
  for (const auto& [keys, exact, chunk] : cases) {
    INFO(keys << " " << exact.sink << " " << exact.recent << " " << chunk);
    const std::vector<PackedSpec> specs = packed_specs(plain_cache(shape, 3, keys), shape, "K3V3");
    const auto held = size_t(2 * chunk);
    const auto before = make_paged_sequence(model, shape, {specs, exact}, 330, chunk);
    const auto sequence = make_paged_sequence(model, shape, {specs, exact}, 330, chunk);
    before->append(std::span(tokens).first(held));
    const std::span<const float> got = sequence->append(std::span(tokens).first(held + 50));
    const Past past = past_of(model.config(), held_by(*before), int64_t(held));
    CHECK(relative_distance(got, logits_behind(model, past, std::span(tokens).subspan(held, 50), nullptr)) <
          1e-6);
    // What is held does not depend on the chunks, but for what they attended to.
    const auto whole = make_paged_sequence(model, shape, {specs, exact}, 330);
    whole->append(std::span(tokens).first(held + 50));
    CHECK(sequence->held(0).k == whole->held(0).k);
    CHECK(sequence->held(0).v == whole->held(0).v);
    CHECK(sequence->cache_bytes() == whole->cache_bytes());
    for (size_t t = held + 50; t < held + 120; ++t) {
      const std::span<const float> logits = sequence->append({&tokens[t], 1});
      CHECK(relative_distance(logits, over_pages(model, held_by(*sequence), tokens, t)) < 1e-5);
    }
  }
}

TEST_CASE("what pages cannot hold is refused by name", "[sequence]") {
  const AttentionShape shape = attention_shape(Checkpoint(trained_model("tiny-qwen2")).config(), 1);
  QuantizedCache cache = plain_cache(shape, 3, "tq-mse");
  cache.values.clear();
  CHECK_THROWS_WITH(packed_specs(cache, shape, "K3"),
                    "K3: pages hold keys and values quantized, both of them");
  cache = plain_cache(shape, 3, "kivi");
  cache.values = plain_cache(shape, 3, "tq-mse").values;
  CHECK_THROWS_WITH(packed_specs(cache, shape, "kivi"),
                    "kivi: pages have no place for codes that are not groups with a norm");
}

TEST_CASE("trellis pages: as many bytes as scalar codes, less error", "[sequence]") {
  const Checkpoint model(trained_model("tiny-qwen2-hd64"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<int32_t> tokens = some_tokens(160, model.config().vocab);
  const auto prompt = std::span(tokens).first(100), next = std::span(tokens).subspan(100);
  const auto all = run(*make_paged_sequence(model, shape, {}, 160), prompt, next);
  int64_t bytes = 0;
  const auto error = [&](const std::string& keys) {
    const auto sequence =
        make_paged_sequence(model, shape, {packed_specs(plain_cache(shape, 3, keys), shape, keys), {}}, 160);
    const auto got = run(*sequence, prompt, next);
    double sum = 0;
    for (size_t i = 1; i < got.size(); ++i) sum += relative_distance(got[i], all[i]);
    bytes = sequence->cache_bytes();
    return sum;
  };
  const double scalar = error("tq-mse");
  const int64_t scalar_bytes = bytes;
  // Of normal numbers at 3 bits 0.0197 and 0.0345 of the squares: a factor of 0.76.
  CHECK(error("trellis") < 0.85 * scalar);
  CHECK(bytes == scalar_bytes);
}

TEST_CASE("pages with centres of values: a byte per value, less error", "[sequence][centres]") {
  const Checkpoint model(trained_model("tiny-qwen2-hd64"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<int32_t> tokens = some_tokens(200, model.config().vocab);
  const int dim = shape.layout.head_dim, heads = shape.n_kv_heads;
  const auto exact = make_paged_sequence(model, shape, {}, 200);
  exact->append(tokens);
  const auto values_of = [&](int layer, int head) {  // (T, D)
    const PlainPositions held = exact->held(layer);
    std::vector<float> x;
    for (size_t t = 0; t < tokens.size(); ++t)
      for (int d = 0; d < dim; ++d) x.push_back(float(held.v[(t * size_t(heads) + size_t(head)) * dim + d]));
    return x;
  };
  for (const std::string keys : {"tq-mse", "trellis"}) {
    INFO(keys);
    QuantizedCache cache = plain_cache(shape, 3, keys);
    const auto sequence_of = [&] {
      auto sequence = make_paged_sequence(model, shape, {packed_specs(cache, shape, keys), {}}, 200);
      sequence->append(tokens);
      return sequence;
    };
    const auto plain = sequence_of();
    double whole = 0, left = 0;  // squares of layer 0, and of what centres leave of them
    for (int l = 0; l < shape.n_layers; ++l)
      for (int h = 0; h < heads; ++h) {
        auto& quantizer = cache.values[size_t(l)][size_t(h)];
        LinearCode code = *quantizer->linear_code();
        const std::vector<float> x = values_of(l, h);
        code.centres = k_means(x, dim, 16);
        const std::vector<size_t> nearest = nearest_centres(x, dim, code.centres);
        for (size_t t = 0; l == 0 && t < nearest.size(); ++t) {
          double of_whole = 0, of_left = 0;
          for (size_t d = 0; d < size_t(dim); ++d) {
            const double v = x[t * size_t(dim) + d];
            of_whole += v * v;
            of_left += std::pow(v - code.centres[nearest[t] * size_t(dim) + d], 2);
          }
          whole += of_whole, left += std::min(of_whole, of_left);
        }
        quantizer = std::make_unique<LinearQuantizer>(std::move(code));
      }
    const auto centred = sequence_of();
    CHECK(centred->cache_bytes() ==
          plain->cache_bytes() + int64_t(shape.n_layers) * heads * 4 * kPagePositions);  // 200 in 4 pages
    const auto error = [&](const Sequence& sequence) {
      const PlainPositions got = sequence.held(0), want = exact->held(0);
      return relative_distance(std::vector<float>(got.v.begin(), got.v.end()),
                               std::vector<float>(want.v.begin(), want.v.end()));
    };
    // Codes err in proportion to what they code: 400 vectors of 64 coordinates, within 5 %.
    CHECK(left < 0.9 * whole);
    CHECK(error(*centred) == Approx(error(*plain) * std::sqrt(left / whole)).epsilon(0.05));
    CHECK(centred->held(0).k == plain->held(0).k);
  }
  QuantizedCache cache = plain_cache(shape, 3, "tq-mse");
  cache.keys = std::move(cache.values);
  for (HeadQuantizers& layer : cache.keys)
    for (auto& quantizer : layer) {
      LinearCode code = *quantizer->linear_code();
      code.centres.assign(2 * size_t(dim), 1);
      quantizer = std::make_unique<LinearQuantizer>(std::move(code));
    }
  cache.values = plain_cache(shape, 3, "tq-mse").values;
  CHECK_THROWS_WITH(packed_specs(cache, shape, "K3V3"), "K3V3: pages have no place for centres of keys");
}

TEST_CASE("trellis codes that pages cannot hold are refused by name", "[sequence]") {
  AttentionShape shape = attention_shape(Checkpoint(trained_model("tiny-qwen2")).config(), 1);
  CHECK(packed_specs(plain_cache(shape, 2, "trellis"), shape, "K2V2").size() == size_t(shape.n_layers));
  const auto refused = [&](const QuantizedCache& cache, const std::string& why) {
    try {
      packed_specs(cache, shape, "cache");
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK(std::string(e.what()) == "cache: pages have no place for these trellis codes: " + why);
      CHECK_THAT(e.hint, ContainsSubstring("tq-mse"));
    }
  };
  refused(plain_cache(shape, 1, "trellis"), "1 bit: 2 to 4 are expected");
  refused(plain_cache(shape, 5, "trellis"), "5 bits: 2 to 4 are expected");
  QuantizedCache mixed = plain_cache(shape, 3, "trellis");
  mixed.values = plain_cache(shape, 3, "tq-mse").values;
  refused(mixed, "keys alone: keys and values are expected");
  std::swap(mixed.keys, mixed.values);
  refused(mixed, "values alone: keys and values are expected");
  for (const int dim : {96, 256}) {
    shape.layout.head_dim = dim;
    refused(plain_cache(shape, 3, "trellis"),
            "head dimension " + std::to_string(dim) + ": 64 or 128 is expected");
  }
}

TEST_CASE("a simulated sequence counts what its tokens take", "[sequence]") {
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const QuantizedCache cache = plain_cache(shape, 3, "tq-mse"), exact;
  const std::vector<int32_t> tokens = some_tokens(20, model.config().vocab);
  const auto simulated = make_simulated_sequence(model, cache, 20),
             plain = make_simulated_sequence(model, exact, 20);
  simulated->append(tokens);
  plain->append(tokens);
  const int64_t heads = int64_t(shape.n_layers) * shape.n_kv_heads, dim = shape.layout.head_dim;
  CHECK(simulated->cache_bytes() == 20 * heads * 2 * (2 + 3 * dim / 8));
  CHECK(plain->cache_bytes() == 20 * heads * 2 * 4 * dim);
}

#ifdef BLOCKGTQ_CUDA
TEST_CASE("trellis codes under rules of attention that have no kernel are refused by name",
          "[sequence][gpu]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  const AttentionShape plain = attention_shape(Checkpoint(trained_model("tiny-qwen2")).config(), 1);
  const KvKind kind{packed_specs(plain_cache(plain, 3, "trellis"), plain, "K3V3"), {}};
  const auto refused = [&](const AttentionShape& shape, const std::string& why) {
    try {
      const CudaKvCache cache(shape, kind, 1, 330, stream);
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK(std::string(e.what()) == why);
    }
  };
  AttentionShape shape = plain;
  shape.windows.assign(size_t(shape.n_layers), 0);
  shape.windows[1] = 329;
  refused(shape, "layer 1: attention with a sliding window over trellis codes has no kernel");
  shape.windows[1] = 330;  // no shorter than the text
  CHECK(CudaKvCache(shape, kind, 1, 330, stream).n_pages() == pages_of(330));
  shape.softcap = 30;
  refused(shape, "layer 0: attention with softcaps over trellis codes has no kernel");
  shape.softcap = 0;
  shape.sinks = true;
  refused(shape, "layer 0: attention with learned sinks over trellis codes has no kernel");
}

TEST_CASE("greedy texts from the GPU's pages are transformers'", "[sequence][gpu]") {
  if (!has_device()) return;
  const Json golden = read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/greedy.json", 1 << 20);
  for (const std::string& name : kServed) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const auto prompt = golden.at(name).at("prompt").get<std::vector<int32_t>>(),
               wanted = golden.at(name).at("ids").get<std::vector<int32_t>>();
    const auto sequence = make_cuda_sequence(model, attention_shape(model.config(), 1), {}, fp32(),
                                             int64_t(prompt.size() + wanted.size()));
    // Keys and values are rounded to fp16 (transformers' are not): where two tokens are as likely, the other
    // one may come. The text goes on with transformers' token.
    int ties = 0;
    std::span<const float> logits = sequence->append(prompt);
    for (const int32_t& token : wanted) {
      const int32_t found = likeliest(logits);
      if (found != token) {
        ++ties;
        CHECK(logits[size_t(found)] - logits[size_t(token)] < 0.02f);
      }
      if (&token != &wanted.back()) logits = sequence->append({&token, 1});
    }
    CHECK(ties <= 3);
  }
}

TEST_CASE("the GPU's steps over its pages are the CPU's over the same", "[sequence][gpu]") {
  if (!has_device()) return;
  for (const std::string& name : kServed) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const AttentionShape shape = attention_shape(model.config(), 1);
    const std::vector<int32_t> tokens = some_tokens(330, model.config().vocab);
    for (const std::string keys : {"", "tq-mse", "block-gtq", "trellis"})
      for (const ExactWindow exact : {ExactWindow{}, ExactWindow{64, 100}, ExactWindow{64, 0}}) {
        if (keys.empty() && exact != ExactWindow{}) continue;
        INFO(keys << " " << exact.sink << " " << exact.recent);
        KvKind kind;
        kind.exact = exact;
        if (!keys.empty()) kind.packed = packed_specs(plain_cache(shape, 3, keys), shape, keys);
        for (const size_t prompt : {size_t(1), size_t(190)}) {
          CAPTURE(prompt);
          const auto sequence = make_cuda_sequence(model, shape, kind, fp32(), 330);
          // Queries and attention's results in fp16, fixed-point numbers of 16 bits.
          check_over_pages(model, *sequence, tokens, prompt, 140, 1e-3);
        }
      }
  }
}

TEST_CASE("the GPU's pages hold what the CPU twin's do", "[sequence][gpu]") {
  if (!has_device()) return;
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<int32_t> tokens = some_tokens(330, model.config().vocab);
  for (const std::string keys : {"block-gtq", "trellis"})
    for (const ExactWindow exact : {ExactWindow{}, ExactWindow{64, 100}}) {
      const KvKind kind{packed_specs(plain_cache(shape, 4, keys), shape, "K4V4"), exact};
      const auto twin = make_paged_sequence(model, shape, kind, 330);
      const auto sequence = make_cuda_sequence(model, shape, kind, fp32(), 330);
      for (const auto& each : {twin.get(), sequence.get()}) {
        each->append(std::span(tokens).first(200));
        each->append(std::span(tokens).subspan(200, 100));
      }
      CHECK(sequence->cache_bytes() == twin->cache_bytes());
      // The first layer's keys and values depend on the tokens alone. What differs are codes that lay
      // halfway: of 4 bits, one in 500 coordinates is as near to a boundary as fp16 rounds
      // (packed_encode.cu), and a step there is a fifth of a coordinate's size.
      const PlainPositions want = twin->held(0), got = sequence->held(0);
      REQUIRE(got.k.size() == want.k.size());
      const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
        return relative_distance(std::vector<float>(a.begin(), a.end()),
                                 std::vector<float>(b.begin(), b.end()));
      };
      CHECK(distance(got.k, want.k) < 0.02);
      CHECK(distance(got.v, want.v) < 0.02);
    }
}

TEST_CASE("prompts on the GPU, in chunks of any size", "[sequence][gpu]") {
  if (!has_device()) return;
  // Codes that lay halfway go either way: one coordinate in 1500 for 3 bits, in 2000 for 2, where a step is
  // half of a coordinate's size and all of it. Of trellis codes another path is as near in up to one vector
  // of 200; it is an eighth of the vector's length away for 3 bits, a quarter for 2, and twice that at most.
  // That is one of 11 vectors where the prompt is one token.
  const std::vector<PromptKind> kinds = {{"", 0, 1e-3, {}},
                                         {"block-gtq", 3, 0.03, {64, 64}},
                                         {"block-gtq", 3, 0.03, {64, 100}},
                                         {"tq-mse", 2, 0.05, {64, 64}},
                                         {"tq-mse", 2, 0.05, {64, 100}},
                                         {"trellis", 3, 0.08, {64, 64}},
                                         {"trellis", 2, 0.15, {64, 100}}};
  for (const std::string& name : kServed) {
    INFO(name);
    check_prompts(Checkpoint(trained_model(name)), kinds, {64, 100, 2048}, {1, 65, 300});
  }
}

TEST_CASE("greedy texts over an exact past on a GPU are transformers'", "[sequence][gpu]") {
  if (!has_device()) return;
  const std::string name = "tiny-deepseek2";
  const Json golden = read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/greedy.json", 1 << 20).at(name);
  const Checkpoint model(trained_model(name));
  const auto prompt = golden.at("prompt").get<std::vector<int32_t>>(),
             wanted = golden.at("ids").get<std::vector<int32_t>>();
  const AttentionShape shape = attention_shape(model.config(), 1);
  const auto context = int64_t(prompt.size() + wanted.size());
  for (const int64_t chunk : {7, 2048}) {
    INFO("chunk " << chunk);
    const auto sequence = make_cuda_sequence(model, shape, {}, fp32(), context, chunk);
    std::vector<int32_t> got = {likeliest(sequence->append(prompt))};
    while (got.size() < wanted.size()) got.push_back(likeliest(sequence->append({&got.back(), 1})));
    CHECK(got == wanted);
  }
  const auto batch = make_cuda_batch(model, shape, {}, fp32(), 2, context);
  const int a = batch->add(prompt, context), b = batch->add(std::span(prompt).first(5), context);
  std::vector<int32_t> got = {batch->likeliest(a)};
  while (got.size() < wanted.size()) {
    std::vector<int32_t> next(2);
    next[size_t(a)] = got.back();
    next[size_t(b)] = batch->likeliest(b);
    batch->step(next);
    got.push_back(batch->likeliest(a));
  }
  CHECK(got == wanted);
}

TEST_CASE("families without steps go on over an exact past", "[sequence][gpu]") {
  if (!has_device()) return;
  for (const std::string name : {"deepseek_v3", "phi3-longrope", "gpt_oss", "gemma2"}) {
    INFO(name);
    const Checkpoint model(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families" / name);
    REQUIRE(!without_step(model.config()).empty());
    const AttentionShape shape = attention_shape(model.config(), 1);
    const std::vector<int32_t> tokens = some_tokens(50, model.config().vocab);
    const QuantizedCache none;
    const auto twin = make_simulated_sequence(model, none, 50),
               sequence = make_cuda_sequence(model, shape, {}, fp32(), 50, 16);
    const auto want = run(*twin, std::span(tokens).first(40), std::span(tokens).subspan(40)),
               got = run(*sequence, std::span(tokens).first(40), std::span(tokens).subspan(40));
    for (size_t i = 0; i < got.size(); ++i) CHECK(relative_distance(got[i], want[i]) < 1e-4);
    CHECK(sequence->cache_bytes() == twin->cache_bytes());
    CHECK(twin->held(0).v.size() == sequence->held(0).v.size());
  }
}

TEST_CASE("what no step computes is refused by name", "[sequence]") {
  const auto of_family = [](const std::string& name) {
    return without_step(Checkpoint(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families" / name).config());
  };
  CHECK(without_step(Checkpoint(trained_model("tiny-deepseek2")).config()) == "latent attention");
  CHECK(of_family("qwen3_next") == "gated delta nets");
  CHECK(of_family("phi3-longrope") == "frequencies that depend on the length");
  CHECK(of_family("gpt_oss") == "a head dimension of 8");
  CHECK(without_sequence(Checkpoint(trained_model("tiny-deepseek2")).config()).empty());
  const Checkpoint delta(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families/qwen3_next");
  const AttentionShape shape = attention_shape(delta.config(), 1);
  CHECK_THROWS_WITH(make_cuda_sequence(delta, shape, {}, fp32(), 50),
                    ContainsSubstring("no kernel for gated delta nets"));
  const Checkpoint latent(trained_model("tiny-deepseek2"));
  KvKind packed;
  packed.packed.resize(1);
  CHECK_THROWS_WITH(make_cuda_sequence(latent, attention_shape(latent.config(), 1), packed, fp32(), 50),
                    ContainsSubstring("no kernel for latent attention"));
  for (const std::string& name : kServed)
    CHECK(without_step(Checkpoint(trained_model(name)).config()).empty());
}
#endif
