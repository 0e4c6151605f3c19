// The forward pass against what other programs computed (golden/forward.json, made by
// golden/make_forward.py), and its promises: threads, chunks, what the callbacks may do.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "captured.h"
#include "catch.h"
#include "tools/random_checkpoint.h"
#include "worse.h"

namespace {

using namespace blockgtq;
using namespace blockgtq::test;

Json golden() {
  return read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/forward.json", size_t(4) << 20);
}

/// Norm and samples of a tensor. Float32 passes of these depths differ by some 1e-6 of the norm from each
/// other; the norms then differ by no more (triangle inequality), and a sample by a few 1e-6 of the root mean
/// square. 1e-4 is what the project promises for Q and K of whole tensors.
void check_digest(const Json& want, const float* got, double tolerance, double& worst) {
  const size_t size = want["size"].get<size_t>();
  double norm = 0;
  for (size_t i = 0; i < size; ++i) norm += double(got[i]) * double(got[i]);
  norm = std::sqrt(norm);
  const double want_norm = want["norm"].get<double>();
  CHECK(std::abs(norm - want_norm) <= tolerance * want_norm);
  const double unit = want_norm / std::sqrt(double(size));
  for (size_t i = 0; i < want["at"].size(); ++i) {
    const double difference =
        std::abs(double(got[want["at"][i].get<size_t>()]) - want["value"][i].get<double>());
    worst = worse(worst, difference / unit);
    CHECK(difference <= tolerance * unit);
  }
}

void check_all(const Json& want, const Captured& got, const std::string& name) {
  double worst = 0;
  REQUIRE(got.q.size() == want["layers"].size());
  for (size_t l = 0; l < got.q.size(); ++l) {
    INFO(fmt::format("{}, layer {}", name, l));
    check_digest(want["layers"][l]["q"], got.q[l].data(), 1e-4, worst);
    check_digest(want["layers"][l]["k"], got.k[l].data(), 1e-4, worst);
  }
  INFO(name + ", logits");
  check_digest(want["logits"], got.logits.data(), 1e-3, worst);
  UNSCOPED_INFO(fmt::format("{}: worst sample {:.1e} of the root mean square", name, worst));
  CHECK(worst < 1e-3);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    norm += std::pow(double(a[i]), 2);
  }
  return std::sqrt(difference / norm);
}

struct ThreadsGuard {
  int before = threads();
  ~ThreadsGuard() { set_threads(before); }
};

}  // namespace

TEST_CASE("trained models give the reference's activations and logits") {
  const Json all = golden();
  for (const Json& want : all["trained"]) {
    const std::string name = want["model"].get<std::string>();
    const Checkpoint model(trained_model(name));
    const auto tokens = want["tokens"].get<std::vector<int32_t>>();
    check_all(want, run_forward(model, tokens, 256), name);
  }
}

TEST_CASE("random sharded checkpoints give what transformers computes") {
  const Json all = golden();
  for (const Json& want : all["random"]) {
    const TempDir dir;
    RandomCheckpoint spec;
    spec.config = want["config"];
    spec.seed = want["seed"].get<uint64_t>();
    spec.scale = want["scale"].get<double>();
    spec.shard_bytes = want["shard_bytes"].get<uint64_t>();
    write_random_checkpoint(spec, dir.path());
    const Checkpoint model(dir.path());
    REQUIRE(model.n_shards() > 1);
    const auto tokens = want["tokens"].get<std::vector<int32_t>>();
    check_all(want, run_forward(model, tokens, 0), want["name"].get<std::string>());
  }
}

TEST_CASE("the same bytes for one thread and for more") {
  const ThreadsGuard guard;
  const std::vector<int32_t> tokens = some_tokens(1100);  // enough work that every step is shared
  for (const char* name : {"tiny-qwen2", "tiny-qwen3-moe", "tiny-deepseek2"}) {
    const Checkpoint model(trained_model(name));
    set_threads(1);
    const Captured one = run_forward(model, tokens, 550);
    for (int n : {2, 3}) {
      set_threads(n);
      CHECK(run_forward(model, tokens, 550) == one);
    }
  }
}

TEST_CASE("chunks do not see each other, and the last may be short") {
  for (const char* name : {"tiny-llama3", "tiny-glm", "tiny-deepseek2"}) {
    const Checkpoint model(trained_model(name));
    const std::vector<int32_t> tokens = some_tokens(150);
    const Captured all = run_forward(model, tokens, 64);
    const std::span<const int32_t> span(tokens);
    for (int64_t first : {0, 64, 128}) {
      const size_t n = std::min<size_t>(64, tokens.size() - size_t(first));
      const Captured alone = run_forward(model, span.subspan(size_t(first), n), 64);
      for (size_t l = 0; l < all.k.size(); ++l) {
        const size_t row = alone.k[l].size() / n;
        const std::vector<float> part(all.k[l].begin() + first * int64_t(row),
                                      all.k[l].begin() + (first + int64_t(n)) * int64_t(row));
        // Tiles of the products differ, so the last bits may.
        CHECK(distance(alone.k[l], part) < 1e-5);
      }
      const std::vector<float> logits(all.logits.begin() + first * 2048,
                                      all.logits.begin() + (first + int64_t(n)) * 2048);
      CHECK(distance(alone.logits, logits) < 1e-5);
    }
    // One window of all tokens is something else, and chunk 0 asks for it.
    CHECK(distance(all.logits, run_forward(model, tokens, 0).logits) > 1e-3);
    CHECK(run_forward(model, tokens, 0) == run_forward(model, tokens, 150));
    CHECK(run_forward(model, tokens, 0) == run_forward(model, tokens, 4096));
  }
}

TEST_CASE("a layer attends to the keys and values it finds after on_layer") {
  for (const char* name : {"tiny-qwen2", "tiny-deepseek2"}) {
    const Checkpoint model(trained_model(name));
    const Config& c = model.config();
    const std::vector<int32_t> tokens = some_tokens(80);
    const Captured plain = run_forward(model, tokens, 40);
    const int64_t k_size = 80 * c.n_kv_heads * c.head_dim;
    const auto scale_keys = [&](LayerActivations& a) {
      for (int64_t i = 0; i < k_size && a.layer == 1; ++i) a.k[i] *= 0.5f;
    };
    const Captured changed = run_forward(model, tokens, 40, true, scale_keys);
    CHECK(changed.k[0] == plain.k[0]);
    CHECK(changed.k[1] == plain.k[1]);  // captured before the change
    CHECK(changed.k[2] != plain.k[2]);
    CHECK(changed.logits != plain.logits);
    // q . (k / 2) = (q / 2) . k exactly: halving the queries instead is the same, up to MLA's part without
    // rotation, which is not shown.
    const auto scale_queries = [&](LayerActivations& a) {
      for (int64_t i = 0; i < 80 * c.n_heads * c.head_dim && a.layer == 1; ++i) a.q[i] *= 0.5f;
    };
    CHECK(run_forward(model, tokens, 40, true, scale_queries).k[2] == changed.k[2]);
    if (c.v_dim > 0) {
      const auto drop_values = [&](LayerActivations& a) {
        for (int64_t i = 0; i < 80 * c.n_kv_heads * c.v_dim && a.layer == 1; ++i) a.v[i] = 0;
      };
      CHECK(run_forward(model, tokens, 40, true, drop_values).k[2] != plain.k[2]);
    }
  }
}

TEST_CASE("a layer attends to recent positions in the place of the same ones among all") {
  const int64_t n = 80, chunk = 40;
  for (const char* name : {"tiny-qwen2", "tiny-mistral", "tiny-deepseek2"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const Config& c = model.config();
    const std::vector<int32_t> tokens = some_tokens(n);
    const int64_t k_size = n * c.n_kv_heads * c.head_dim, v_size = n * c.n_kv_heads * c.v_dim;
    // Zeros wherever a query sees what is not recent.
    const auto forward = [&](std::vector<int64_t> recent) {
      return run_forward(model, tokens, chunk, true, [&](LayerActivations& a) {
        a.recent.n = recent;
        a.recent.k.assign(a.k, a.k + k_size);
        std::fill_n(a.k, k_size, 0.0f);
        if (!a.v) return;
        a.recent.v.assign(a.v, a.v + v_size);
        std::fill_n(a.v, v_size, 0.0f);
      });
    };
    const Captured plain = run_forward(model, tokens, chunk);
    const Captured none = run_forward(model, tokens, chunk, true, [&](LayerActivations& a) {
      std::fill_n(a.k, k_size, 0.0f);
      if (a.v) std::fill_n(a.v, v_size, 0.0f);
    });
    CHECK(forward({chunk, chunk}) == plain);
    CHECK(forward({chunk, chunk + 1}) == plain);
    CHECK(forward({0, 0}) == none);
    // Every window has its own: the first half as in the one run, the second as in the other.
    const Captured first = forward({0, 0}), second = forward({7, 7}), both = forward({0, 7});
    const auto half = std::ptrdiff_t(chunk * c.vocab);
    CHECK(std::equal(both.logits.begin(), both.logits.begin() + half, first.logits.begin()));
    CHECK(std::equal(both.logits.begin() + half, both.logits.end(), second.logits.begin() + half));
    // The first seven of a window see no other position.
    CHECK(distance({plain.logits.begin(), plain.logits.begin() + 7 * c.vocab},
                   {second.logits.begin(), second.logits.begin() + 7 * c.vocab}) < 1e-5);
    CHECK(second.logits != plain.logits);
  }
}

TEST_CASE("without on_logits the same activations, every layer once, in order") {
  const Checkpoint model(trained_model("tiny-mistral"));
  const std::vector<int32_t> tokens = some_tokens(70);
  const Captured with = run_forward(model, tokens, 32), without = run_forward(model, tokens, 32, false);
  CHECK(with.q == without.q);
  CHECK(with.k == without.k);
  CHECK(with.v == without.v);
  CHECK(without.logits.empty());
  CHECK(with.logits.size() == 70 * 2048);
  CHECK(with.k.size() == size_t(model.config().n_layers));
}

TEST_CASE("a run that begins between two layers is the rest of a whole one") {
  const auto copy = [](const LayerActivations&, const float* x, int64_t n) {
    return std::vector<float>(x, x + n);
  };
  for (const char* name : {"tiny-llama", "tiny-glm", "tiny-qwen3-moe"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    check_boundaries(*make_cpu_backend(), copy, model, 32);
  }
}

TEST_CASE("progress: one step per layer") {
  struct Counter : Progress {
    void begin(const std::string&, int64_t steps) override { announced = steps; }
    void step(const std::string&) override { ++steps; }
    void end() override { ++ends; }
    int64_t announced = 0;
    int steps = 0, ends = 0;
  } counter;
  const Checkpoint model(trained_model("tiny-qwen3"));
  const std::vector<int32_t> tokens = some_tokens(5);
  ForwardRequest request;
  request.tokens = tokens;
  request.progress = &counter;
  make_cpu_backend()->forward(model, request);
  CHECK(counter.announced == model.config().n_layers);
  CHECK(counter.steps == model.config().n_layers);
  CHECK(counter.ends == 1);
}
