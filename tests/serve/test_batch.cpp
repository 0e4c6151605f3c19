// Texts that grow side by side: each as alone, whatever joins and leaves.
#include <map>

#include "catch.h"
#include "model/captured.h"
#include "model/model_shape.h"
#include "serve/over_pages.h"
#include "serve/packed_specs.h"
#include "serve/paged_sequence.h"
#include "serve/plain_cache.h"
#include "serve/sequence_batch.h"
#ifdef BLOCKGTQ_CUDA
#include "serve/cuda_batch.h"
#endif

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// A text whose tokens are known: a prompt, and so many more.
struct KnownText {
  std::vector<int32_t> tokens;
  size_t prompt = 0;
};

/// Five texts of different lengths, of random tokens.
std::vector<KnownText> five_texts(int vocab) {
  std::vector<KnownText> texts;
  const std::vector<std::pair<size_t, size_t>> lengths = {{70, 60}, {5, 150}, {64, 3}, {200, 90}, {1, 66}};
  const std::vector<int32_t> all = some_tokens(600, vocab);
  size_t from = 0;
  for (const auto& [prompt, more] : lengths) {
    texts.push_back({{all.begin() + long(from), all.begin() + long(from + prompt + more)}, prompt});
    from += 37;
  }
  return texts;
}

using Logits = std::vector<std::vector<float>>;

/// Called between steps, and before a text gives its slot back.
using Between = std::function<void()>;
using OnEnd = std::function<void(int slot, size_t text)>;

/// The logits behind every prompt and every token behind it, of texts that begin as soon as there is room.
std::vector<Logits> run_batch(Batch& batch, const std::vector<KnownText>& texts, const Between& between = {},
                              const OnEnd& on_end = {}) {
  std::vector<Logits> logits(texts.size());
  std::map<int, size_t> running;  // slot: text
  const auto keep = [&](int slot, size_t text) {
    const std::span<const float> got = batch.logits(slot);
    logits[text].emplace_back(got.begin(), got.end());
    CHECK(batch.likeliest(slot) == std::max_element(got.begin(), got.end()) - got.begin());
  };
  for (size_t next = 0; next < texts.size() || !running.empty();) {
    while (next < texts.size() && batch.has_room(int64_t(texts[next].tokens.size()))) {
      const KnownText& text = texts[next];
      const int slot = batch.add(std::span(text.tokens).first(text.prompt), int64_t(text.tokens.size()));
      CHECK(running.emplace(slot, next).second);
      keep(slot, next++);
    }
    REQUIRE(!running.empty());
    if (between) between();
    std::vector<int32_t> tokens(size_t(batch.slots()), 3);
    for (const auto& [slot, i] : running)
      tokens[size_t(slot)] = texts[i].tokens[texts[i].prompt + logits[i].size() - 1];
    batch.step(tokens);
    for (auto at = running.begin(); at != running.end();) {
      const auto [slot, i] = *at;
      keep(slot, i);
      const bool done = logits[i].size() == texts[i].tokens.size() - texts[i].prompt + 1;
      if (done && on_end) on_end(slot, i);
      if (done) batch.end(slot);
      at = done ? running.erase(at) : std::next(at);
    }
  }
  return logits;
}

}  // namespace

TEST_CASE("texts side by side on the CPU are the sequences alone", "[batch]") {
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const auto make = [&](int64_t context) { return make_paged_sequence(model, shape, {}, context); };
  std::vector<KnownText> texts = five_texts(model.config().vocab);
  for (KnownText& text : texts) {  // enough for joining and leaving
    text.prompt = text.prompt / 20 + 1;
    text.tokens.resize(text.prompt + text.tokens.size() / 20 + 1);
  }
  for (const int slots : {1, 3}) {
    const auto batch = make_sequence_batch(slots, make);
    CHECK(batch->slots() == slots);
    const std::vector<Logits> got = run_batch(*batch, texts);
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto alone = make(int64_t(texts[i].tokens.size()));
      const std::span<const int32_t> tokens = texts[i].tokens;
      std::span<const float> want = alone->append(tokens.first(texts[i].prompt));
      for (size_t t = 0; t < got[i].size(); ++t) {
        CHECK(std::equal(want.begin(), want.end(), got[i][t].begin(), got[i][t].end()));
        if (t + 1 < got[i].size()) want = alone->append(tokens.subspan(texts[i].prompt + t, 1));
      }
    }
    CHECK_THROWS_AS(batch->logits(0), std::logic_error);
  }
}

#ifdef BLOCKGTQ_CUDA
namespace {

CudaOptions in_fp32(int64_t memory_limit_bytes = 0) {
  CudaOptions options;
  options.type = ComputeType::fp32;
  options.memory_limit_bytes = memory_limit_bytes;
  return options;
}

int64_t longest_of(const std::vector<KnownText>& texts) {
  size_t longest = 0;
  for (const KnownText& text : texts) longest = std::max(longest, text.tokens.size());
  return int64_t(longest);
}

struct Kind {
  KvKind kv;
  bool same_codes;  // as alone: of trellis codes another path may be as near, a sixteenth of a vector away
};

/// fp16 pages, packed ones, packed ones with a window beside; the same in trellis codes.
std::vector<Kind> kinds(const AttentionShape& shape) {
  const std::vector<PackedSpec> packed = packed_specs(plain_cache(shape, 3, "block-gtq"), shape, "K3V3");
  const std::vector<PackedSpec> trellis = packed_specs(plain_cache(shape, 4, "trellis"), shape, "K4V4");
  return {{{}, true},
          {{packed, {}}, true},
          {{packed, {64, 100}}, true},
          {{packed, {64, 0}}, true},
          {{trellis, {}}, false},
          {{trellis, {64, 100}}, false}};
}

}  // namespace

TEST_CASE("texts side by side on a GPU are the sequences alone", "[batch][gpu]") {
  if (!has_device()) return;
  for (const std::string name : {"tiny-qwen2", "tiny-qwen3"}) {
    const Checkpoint model(trained_model(name));
    const AttentionShape shape = attention_shape(model.config(), 1);
    const std::vector<KnownText> texts = five_texts(model.config().vocab);
    for (const auto& [kind, same_codes] : kinds(shape)) {
      CAPTURE(name, kind.is_packed(), kind.exact.sink, kind.exact.recent, same_codes);
      CudaBatch batch(model, shape, kind, in_fp32(), 3, longest_of(texts), kPromptChunk);
      const std::vector<Logits> got = run_batch(batch, texts, {}, [&](int slot, size_t i) {
        const auto held = [&](int layer) { return batch.held(slot, layer); };
        const std::vector<int32_t>& tokens = texts[i].tokens;
        CHECK(relative_distance(batch.logits(slot), over_pages(model, held, tokens, tokens.size() - 1)) <
              2e-3);
      });
      CHECK(batch.cache().free_pages() == batch.cache().n_pages());
      for (size_t i = 0; i < texts.size(); ++i) {
        const std::span<const int32_t> tokens = texts[i].tokens;
        const auto alone = make_cuda_sequence(model, shape, kind, in_fp32(), int64_t(tokens.size()));
        std::span<const float> want = alone->append(tokens.first(texts[i].prompt));
        double worst = 0;
        for (size_t t = 0; t < got[i].size(); ++t) {
          worst = worse(worst, relative_distance(got[i][t], want));
          if (t + 1 < got[i].size()) want = alone->append(tokens.subspan(texts[i].prompt + t, 1));
        }
        CAPTURE(i);
        // Sums in another order: queries, keys, values and attention's results round to fp16, or to their
        // codes, on either side of a boundary. Each run lies within 1e-3 of the CPU over its pages.
        CHECK(worst < (same_codes ? 2e-3 : 0.05));
      }
    }
  }
}

TEST_CASE("pages that nobody has may hold anything", "[batch][gpu]") {
  if (!has_device()) return;
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  const std::vector<KnownText> texts = five_texts(model.config().vocab);
  for (const auto& [kind, same_codes] : kinds(shape)) {
    CAPTURE(kind.is_packed(), kind.exact.sink, kind.exact.recent);
    CudaBatch plain(model, shape, kind, in_fp32(), 3, longest_of(texts), kPromptChunk),
        spoiled(model, shape, kind, in_fp32(), 3, longest_of(texts), kPromptChunk);
    const std::vector<Logits> want = run_batch(plain, texts);
    spoiled.cache().spoil_free_pages(spoiled.stream());
    const std::vector<Logits> got =
        run_batch(spoiled, texts, [&] { spoiled.cache().spoil_free_pages(spoiled.stream()); });
    CHECK(got == want);  // NaN is equal to nothing
  }
}

TEST_CASE("a text waits for pages that others may come to", "[batch][gpu]") {
  if (!has_device()) return;
  const Checkpoint model(trained_model("tiny-qwen2"));
  const AttentionShape shape = attention_shape(model.config(), 1);
  constexpr int64_t kMost = 100000;  // beside such a cache the model is small
  const int64_t pages = pages_of(kMost);
  const auto limit = [&](double texts) {
    const cuda::Stream stream;
    const CudaWeights weights(model, in_fp32());
    const CudaKvCache one(shape, {}, 1, kMost, stream);
    return weights.bytes() + kMost * model.config().head_dim * 4 +
           CudaPrompt::most_bytes(weights, shape, kMost, kPromptChunk) + int64_t(texts * double(one.bytes()));
  };
  CudaBatch batch(model, shape, {}, in_fp32(limit(2.5)), 3, kMost, kPromptChunk);
  const int64_t all = batch.cache().n_pages();
  CHECK(all > 2 * pages);
  CHECK(all < 3 * pages);
  batch.require(kMost);
  const std::vector<int32_t> prompt = {5, 6, 7};
  const int first = batch.add(prompt, kMost), second = batch.add(prompt, kMost);
  CHECK(batch.cache().free_pages() == all - 2);  // pages come with tokens
  CHECK_FALSE(batch.has_room(kMost));
  CHECK(batch.has_room(100));
  batch.end(first);
  CHECK(batch.has_room(kMost));
  CHECK(batch.add(prompt, kMost) == first);
  batch.end(first);
  batch.end(second);
  CHECK(batch.cache().free_pages() == all);

  const CudaBatch small(model, shape, {}, in_fp32(limit(0.5)), 3, kMost, kPromptChunk);
  try {
    small.require(kMost);
    FAIL("pages for half a text");
  } catch (const Error& e) {
    CHECK(e.code == Exit::device);
    CHECK_THAT(e.what(), ContainsSubstring("fp16 pages: " + std::to_string(pages) + " needed, "));
  }
}

TEST_CASE("sequences take pages as they grow and give them back", "[batch][gpu]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  const AttentionShape shape = attention_shape(Checkpoint(trained_model("tiny-qwen2")).config(), 1);
  const KvKind kind{packed_specs(plain_cache(shape, 3, "block-gtq"), shape, "K3V3"), {64, 100}};
  CudaKvCache cache(shape, kind, 2, 640, stream);
  const int64_t all = cache.n_pages();
  CHECK(all == 2 * (9 + 4));  // packed behind the sink; the sink's, and three in turn
  const auto taken = [&](int64_t n) {
    cache.grow(0, n, stream);
    return all - cache.free_pages();
  };
  CHECK(taken(1) == 1);
  CHECK(taken(64) == 1);
  CHECK(taken(65) == 1 + 2);
  CHECK(taken(330) == 5 + 4);
  CHECK(taken(100) == 5 + 4);  // what it has it keeps
  CHECK(taken(640) == 9 + 4);
  cache.release(0, stream);
  cache.release(0, stream);
  CHECK(cache.free_pages() == all);

  CudaKvCache half(shape, kind, 2, 640, stream, cache.bytes() * 6 / 10);
  half.grow(0, 640, stream);
  const int64_t left = half.free_pages();
  const std::vector<int64_t> both = {640, 640}, one = {640};
  CHECK(half.holds(one));
  CHECK_FALSE(half.holds(both));
  CHECK_THROWS_WITH(half.grow(1, 640, stream), ContainsSubstring("packed pages: 9 needed, "));
  CHECK(half.free_pages() == left);
  half.release(0, stream);
  half.grow(1, 640, stream);
}
#endif
