// A sequence continued token by token is what one pass over all of it is.
#include <cmath>

#include "base/error.h"
#include "captured.h"
#include "catch.h"
#include "eval/divergence.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// Logits (T, vocab) of tokens that come in these pieces.
std::vector<float> in_pieces(const Checkpoint& model, const std::vector<int32_t>& tokens,
                             const std::vector<size_t>& pieces, const OnLayer& change = nullptr) {
  Past past;
  past.context = int64_t(tokens.size());
  std::vector<float> all;
  size_t first = 0;
  for (const size_t n : pieces) {
    ForwardRequest request;
    request.tokens = std::span(tokens).subspan(first, n);
    request.chunk = 0;
    request.past = &past;
    request.on_layer = change;
    request.on_logits = [&](int64_t, int64_t rows, const float* logits) {
      all.insert(all.end(), logits, logits + rows * model.config().vocab);
    };
    make_cpu_backend()->forward(model, request);
    first += n;
  }
  CHECK(past.n == int64_t(tokens.size()));
  return all;
}

void check_pieces(const Checkpoint& model) {
  const std::vector<int32_t> tokens = some_tokens(70, model.config().vocab);
  const std::vector<float> whole = run_forward(model, tokens, 0).logits;
  CHECK(relative_distance(in_pieces(model, tokens, {70}), whole) < 1e-6);
  CHECK(relative_distance(in_pieces(model, tokens, {1, 1, 30, 1, 37}), whole) < 1e-5);
}

/// A coarse stand-in for a quantizer: every number alone, so that its codes do not depend on the pieces.
void coarse(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::round(x[i] * 2) / 2;
}

}  // namespace

TEST_CASE("greedy texts of the trained models are transformers'", "[past]") {
  const Json golden = read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/greedy.json", 1 << 20);
  CHECK(golden.size() == 10);
  for (const auto& [name, expected] : golden.items()) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const auto prompt = expected.at("prompt").get<std::vector<int32_t>>(),
               wanted = expected.at("ids").get<std::vector<int32_t>>();
    Past past;
    past.context = int64_t(prompt.size() + wanted.size());
    std::vector<int32_t> next = prompt, got;
    while (got.size() < wanted.size()) {
      ForwardRequest request;
      request.tokens = next;
      request.chunk = 0;
      request.past = &past;
      request.logits_from = int64_t(next.size()) - 1;
      int32_t token = -1;
      request.on_logits = [&](int64_t first, int64_t n, const float* logits) {
        CHECK(first == request.logits_from);
        CHECK(n == 1);
        token = int32_t(likeliest(logits, model.config().vocab));
      };
      make_cpu_backend()->forward(model, request);
      got.push_back(token);
      next = {token};
    }
    CHECK(got == wanted);
  }
}

TEST_CASE("in pieces as in one: the trained models, and every family", "[past]") {
  for (const char* name : {"tiny-llama3", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"}) {
    INFO(name);
    check_pieces(Checkpoint(trained_model(name)));
  }
  for (const auto& entry : fs::directory_iterator(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families")) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    INFO(entry.path().filename().string());
    const Checkpoint model(entry.path());
    if (int(model.config().kv_layers().size()) == model.config().n_layers) {
      check_pieces(model);
      continue;
    }
    Past past;
    past.context = 8;
    ForwardRequest request;
    const std::vector<int32_t> tokens = some_tokens(4, model.config().vocab);
    request.tokens = tokens;
    request.chunk = 0;
    request.past = &past;
    try {
      make_cpu_backend()->forward(model, request);
      FAIL("gated delta nets keep no past");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK_THAT(e.what(), ContainsSubstring("gated delta nets"));
    }
  }
}

TEST_CASE("what a cache gives back, and positions that it holds exactly, piece by piece", "[past]") {
  for (const char* name : {"tiny-qwen2", "tiny-deepseek2"}) {
    const Checkpoint model(trained_model(name));
    const Config& c = model.config();
    const bool latent = c.attention == AttentionKind::mla;
    const int64_t k_width = latent ? c.mla.rope_dim : int64_t(c.n_kv_heads) * c.head_dim,
                  v_width = int64_t(c.n_kv_heads) * c.v_dim;
    const std::vector<int32_t> tokens = some_tokens(60, c.vocab);
    for (const int64_t recent : {0, 7, 100}) {
      INFO(name << ", recent " << recent);
      const OnLayer change = [&](LayerActivations& acts) {
        if (recent > 0) {
          acts.recent.n = {recent};
          acts.recent.k.assign(acts.k, acts.k + acts.n_tokens * k_width);
          if (acts.v) acts.recent.v.assign(acts.v, acts.v + acts.n_tokens * v_width);
        }
        coarse(acts.k, acts.n_tokens * k_width);
        if (acts.v) coarse(acts.v, acts.n_tokens * v_width);
      };
      const std::vector<float> whole = run_forward(model, tokens, 0, true, change).logits;
      const std::vector<float> exact = run_forward(model, tokens, 0).logits;
      CHECK((relative_distance(whole, exact) > 1e-3) == (recent < 60));  // the cache is seen
      CHECK(relative_distance(in_pieces(model, tokens, {20, 1, 1, 38}, change), whole) < 1e-4);
    }
  }
}
