// A sequence continued on a GPU, piece by piece, is what the CPU makes of it.
#include "both_backends.h"
#include "kernels/forward/blas.h"
#include "model/cuda_plan.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Continued {
  Past past;
  std::vector<float> logits;  // (T, vocab)
};

/// Tokens in pieces of these lengths, by a backend.
Continued in_pieces(Backend& backend, const Checkpoint& model, std::span<const int32_t> tokens,
                    const std::vector<size_t>& pieces) {
  Continued out;
  out.past.context = int64_t(tokens.size());
  size_t first = 0;
  for (const size_t n : pieces) {
    ForwardRequest request;
    request.tokens = tokens.subspan(first, n);
    request.chunk = 0;
    request.past = &out.past;
    request.on_logits = [&](int64_t, int64_t rows, const float* logits) {
      out.logits.insert(out.logits.end(), logits, logits + rows * model.config().vocab);
    };
    backend.forward(model, request);
    first += n;
  }
  return out;
}

void check_pieces(const Checkpoint& model, double bound) {
  const std::vector<int32_t> tokens = some_tokens(150, model.config().vocab);
  const auto gpu = make_cuda_backend(with_type(ComputeType::fp32)), cpu = make_cpu_backend();
  const Continued want = in_pieces(*cpu, model, tokens, {150});
  for (const std::vector<size_t>& pieces :
       {std::vector<size_t>{150}, {64, 86}, {1, 1, 30, 1, 90, 27}, {149, 1}}) {
    const Continued got = in_pieces(*gpu, model, tokens, pieces);
    CHECK(distance(got.logits, want.logits) <= bound);
    CHECK(got.past.n == want.past.n);
    REQUIRE(got.past.layers.size() == want.past.layers.size());
    for (size_t l = 0; l < got.past.layers.size(); ++l) {
      CHECK(distance(got.past.layers[l].k, want.past.layers[l].k) <= 2e-5);
      CHECK(distance(got.past.layers[l].v, want.past.layers[l].v) <= 2e-5);
    }
    CHECK(in_pieces(*gpu, model, tokens, pieces).logits == got.logits);
  }
}

}  // namespace

TEST_CASE("the trained models, and every family, continued on a GPU", "[past]") {
  if (!has_device()) return;
  for (const char* name : {"tiny-llama3", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"}) {
    INFO(name);
    check_pieces(Checkpoint(trained_model(name)), 1e-4);
  }
  for (const auto& entry : fs::directory_iterator(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families")) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    INFO(entry.path().filename().string());
    const Checkpoint model(entry.path());
    if (int(model.config().kv_layers().size()) == model.config().n_layers) {
      check_pieces(model, 1e-4);
      continue;
    }
    const std::vector<int32_t> tokens = some_tokens(4, model.config().vocab);
    const Error e =
        error_of([&] { in_pieces(*make_cuda_backend(with_type(ComputeType::fp32)), model, tokens, {4}); });
    CHECK(e.code == Exit::input);
    CHECK_THAT(e.what(), ContainsSubstring("gated delta nets"));
  }
}

TEST_CASE("weights that stay and weights that pass give the same", "[past]") {
  if (!has_device()) return;
  const Checkpoint model(trained_model("tiny-deepseek2"));
  const std::vector<int32_t> tokens = some_tokens(150, model.config().vocab);
  CudaOptions options = with_type(ComputeType::fp32);
  ForwardRequest request;
  request.tokens = tokens;
  request.chunk = 0;
  request.on_logits = [](int64_t, int64_t, const float*) {};
  const int64_t free = cuda::free_device_bytes();
  const CudaPlan passing(model, request, options, free);
  Past past;
  past.context = 150;
  request.past = &past;
  const CudaPlan staying(model, request, options, free);
  REQUIRE(staying.resident);
  REQUIRE(!passing.resident);
  REQUIRE(staying.arena_bytes > passing.arena_bytes);
  const std::vector<size_t> pieces = {64, 1, 85};
  const auto backend = make_cuda_backend(options);
  const std::vector<float> want = in_pieces(*backend, model, tokens, pieces).logits;
  CHECK(in_pieces(*backend, model, tokens, pieces).logits == want);
  const Checkpoint other(trained_model("tiny-llama3"));
  in_pieces(*backend, other, std::span(tokens).first(9), {9});
  CHECK(in_pieces(*backend, model, tokens, pieces).logits == want);
  options.memory_limit_bytes = staying.activation_bytes + cuda::Blas::kWorkspaceBytes + passing.arena_bytes;
  CHECK(!CudaPlan(model, request, options, free).resident);
  CHECK(in_pieces(*make_cuda_backend(options), model, tokens, pieces).logits == want);
}

TEST_CASE("logits from a token on are those of all", "[past]") {
  if (!has_device()) return;
  const Checkpoint model(trained_model("tiny-deepseek2"));
  const std::vector<int32_t> tokens = some_tokens(700, model.config().vocab);
  const auto vocab = size_t(model.config().vocab);
  const auto gpu = make_cuda_backend(with_type(ComputeType::fp32));
  const std::vector<float> all = run_cuda(model, tokens, 0, with_type(ComputeType::fp32)).logits;
  for (const int64_t from : {1, 300, 699}) {
    std::vector<float> got;
    ForwardRequest request;
    request.tokens = tokens;
    request.chunk = 0;
    request.logits_from = from;
    request.on_logits = [&](int64_t first, int64_t n, const float* logits) {
      CHECK(first == from + int64_t(got.size() / vocab));
      got.insert(got.end(), logits, logits + size_t(n) * vocab);
    };
    gpu->forward(model, request);
    CHECK(got.size() == (700 - size_t(from)) * vocab);
    CHECK(distance(got, std::vector<float>(all.begin() + from * int64_t(vocab), all.end())) <= 1e-5);
  }
}
