// The CUDA backend against the CPU backend, whole models through both, and the promises of cuda_backend.h.
#include <fmt/format.h>

#include "base/parallel.h"
#include "both_backends.h"
#include "hf/gguf_of.h"
#include "kernels/forward/blas.h"
#include "model/cuda_plan.h"
#include "tools/random_checkpoint.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

const char* const kModels[] = {"tiny-llama",      "tiny-llama3",     "tiny-mistral", "tiny-qwen2",
                               "tiny-qwen2-gqa8", "tiny-qwen2-hd64", "tiny-qwen3",   "tiny-qwen3-moe",
                               "tiny-glm",        "tiny-deepseek2"};

}  // namespace

TEST_CASE("every panel model in float32 gives the CPU's activations, energies and logits") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(300);
  for (const char* name : kModels) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const Captured want = run_forward(model, tokens, 128);  // the last chunk is short
    const Captured got = run_cuda(model, tokens, 128, with_type(ComputeType::fp32));
    const Differences d = compare(got, want, model.config());
    UNSCOPED_INFO(
        fmt::format("energy {:.1e}, activations {:.1e}, logits {:.1e}", d.energy, d.activation, d.logits));
    CHECK(d.energy <= 1e-5);
    // Sums of some hundred terms in another order, over six layers: some 1e-6.
    CHECK(d.activation <= 2e-5);
    CHECK(d.logits <= 1e-4);
    CHECK(run_cuda(model, tokens, 128, with_type(ComputeType::fp32)) == got);
  }
}

TEST_CASE("a run on the device that begins between two layers is the rest of a whole one") {
  if (!has_device()) return;
  const auto download = [](const LayerActivations& a, const float* x, int64_t n) {
    return to_host<float>(x, n, cuda::Stream(a.stream));
  };
  for (const char* name : {"tiny-llama", "tiny-qwen3-moe"})
    for (const ComputeType type : {ComputeType::fp32, ComputeType::bf16}) {
      INFO(name);
      const Checkpoint model(trained_model(name));
      check_boundaries(*make_cuda_backend(with_type(type)), download, model, 32);
    }
}

TEST_CASE("quantized weights of a GGUF file are the CPU's numbers") {
  if (!has_device()) return;
  const TempDir dir;
  const std::vector<int32_t> tokens = some_tokens(70);
  for (const std::string name : {"tiny-llama3", "tiny-qwen3-moe"}) {
    INFO(name);
    gguf_of(trained_model(name), quantize).write(dir / (name + ".gguf"));
    const Checkpoint model(dir / (name + ".gguf"));
    const Captured want = run_forward(model, tokens, 32);
    const Differences d =
        compare(run_cuda(model, tokens, 32, with_type(ComputeType::fp32)), want, model.config());
    UNSCOPED_INFO(
        fmt::format("energy {:.1e}, activations {:.1e}, logits {:.1e}", d.energy, d.activation, d.logits));
    CHECK(d.energy <= 1e-5);
    CHECK(d.activation <= 2e-5);
    CHECK(d.logits <= 1e-4);
  }
}

TEST_CASE("16-bit products stay near the CPU") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(256);
  for (const char* name : kModels) {
    const Checkpoint model(trained_model(name));
    const Captured want = run_forward(model, tokens, 256);
    for (const ComputeType type : {ComputeType::automatic, ComputeType::fp16}) {
      INFO(name << ", " << (type == ComputeType::fp16 ? "fp16" : "bf16"));
      const Captured got = run_cuda(model, tokens, 256, with_type(type));
      const Differences d = compare(got, want, model.config());
      UNSCOPED_INFO(
          fmt::format("energy {:.1e}, activations {:.1e}, logits {:.1e}", d.energy, d.activation, d.logits));
      // A rounding of 2^-8 (bf16) or 2^-11 (fp16) at four places per layer, six layers; where experts are
      // nearly equal a token may go to another.
      const bool routed = model.config().moe.n_experts > 0;
      CHECK(d.activation <= (routed ? 0.05 : type == ComputeType::fp16 ? 0.002 : 0.015));
      CHECK(run_cuda(model, tokens, 256, with_type(type)) == got);
    }
  }
}

TEST_CASE("more tokens than a slab, one window, and no logits") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(size_t(kCudaSlabTokens) + 77);
  for (const char* name : {"tiny-qwen3-moe", "tiny-deepseek2", "tiny-glm"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const Captured want = run_forward(model, tokens, 200, false);
    const Captured got = run_cuda(model, tokens, 200, with_type(ComputeType::fp32), false);
    CHECK(compare(got, want, model.config()).activation <= 2e-5);
  }
  const Checkpoint model(trained_model("tiny-qwen3"));
  const std::span<const int32_t> some(tokens.data(), 333);
  CHECK(compare(run_cuda(model, some, 0, with_type(ComputeType::fp32)), run_forward(model, some, 0),
                model.config())
            .activation <= 2e-5);
  CHECK(compare(run_cuda(model, some, 1, with_type(ComputeType::fp32)), run_forward(model, some, 1),
                model.config())
            .activation <= 2e-5);
}

TEST_CASE("weights of many pieces, batches and shards, and a vocabulary that is converted in parts") {
  if (!has_device()) return;
  RandomCheckpoint spec;
  spec.config = config_of("tiny-llama");
  // 37 million weights a layer: three batches. A float32 copy of the embedding is 287 MB, more than is
  // converted at a time.
  spec.config.update({{"hidden_size", 1024},
                      {"intermediate_size", 11264},
                      {"num_attention_heads", 8},
                      {"num_key_value_heads", 2},
                      {"num_hidden_layers", 3},
                      {"vocab_size", 70001},
                      {"tie_word_embeddings", true}});
  spec.shard_bytes = uint64_t(100) << 20;
  const TempDir folder;
  write_random_checkpoint(spec, folder.path());
  const Checkpoint model(folder.path());
  REQUIRE(model.n_shards() > 2);
  const std::vector<int32_t> tokens = some_tokens(20, 70001);
  const Captured got = run_cuda(model, tokens, 8, with_type(ComputeType::fp32));
  const Differences d = compare(got, run_forward(model, tokens, 8), model.config());
  CHECK(d.activation <= 2e-5);
  CHECK(d.logits <= 1e-4);
  const int before = threads();
  set_threads(1);
  CHECK(run_cuda(model, tokens, 8, with_type(ComputeType::fp32)) == got);
  set_threads(before);
}

TEST_CASE("what a callback writes is what the layer attends to") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(100);
  for (const char* name : {"tiny-llama", "tiny-deepseek2"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const Config& c = model.config();
    const auto bytes = [&](const LayerActivations& a) {
      return size_t(a.n_tokens * c.n_kv_heads * c.head_dim) * sizeof(float);
    };
    const Captured want = run_forward(model, tokens, 64, true, [&](LayerActivations& a) {
      if (a.layer == 1) std::memset(a.k, 0, bytes(a));
    });
    const Captured got =
        run_cuda(model, tokens, 64, with_type(ComputeType::fp32), true, [&](LayerActivations& a) {
          if (a.layer == 1) cuda::fill_zero(a.k, bytes(a), cuda::Stream(a.stream));
        });
    CHECK(compare(got, want, c).logits <= 1e-4);
    CHECK(distance(got.logits, run_forward(model, tokens, 64).logits) > 1e-3);
  }
}

TEST_CASE("weights of any type, and room for one layer only: the same bits") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(130);
  for (const char* name : {"tiny-qwen2", "tiny-qwen3-moe"}) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    const Captured want = run_cuda(model, tokens, 64, with_type(ComputeType::fp32));
    // The same weights as float32: stored so, or converted from bf16.
    const TempDir folder;
    std::vector<OwnTensor> tensors = tensors_of(trained_model(name));
    for (OwnTensor& t : tensors) {
      std::string wide(t.bytes.size() * 2, '\0');
      for (size_t i = 0; i < t.bytes.size(); i += 2) std::memcpy(&wide[2 * i + 2], &t.bytes[i], 2);
      t.bytes = wide;
      t.dtype = "F32";
    }
    write_model(folder.path(), config_of(name), tensors);
    const Checkpoint wide(folder.path());
    CHECK(run_cuda(wide, tokens, 64, CudaOptions()) == want);  // automatic: fp32

    ForwardRequest request;
    request.tokens = tokens;
    request.chunk = 64;
    request.on_logits = [](int64_t, int64_t, const float*) {};
    CudaOptions tight = with_type(ComputeType::fp32);
    const CudaPlan two(model, request, tight, int64_t(1) << 40);
    tight.memory_limit_bytes = two.activation_bytes + cuda::Blas::kWorkspaceBytes + two.arena_bytes - 1;
    const CudaPlan one(model, request, tight, int64_t(1) << 40);
    CHECK(one.arena_bytes < two.arena_bytes);
    CHECK(run_cuda(model, tokens, 64, tight) == want);
    tight.memory_limit_bytes = one.activation_bytes + cuda::Blas::kWorkspaceBytes + one.arena_bytes;
    CHECK(run_cuda(model, tokens, 64, tight) == want);
    tight.memory_limit_bytes -= 1;
    const Error e = error_of([&] { run_cuda(model, tokens, 64, tight); });
    CHECK(e.code == Exit::device);
    CHECK_THAT(e.what(), ContainsSubstring("device memory: ") && ContainsSubstring("GiB needed") &&
                             ContainsSubstring("GiB allowed"));
  }
}

TEST_CASE("non-finite numbers are reported as on the CPU") {
  if (!has_device()) return;
  const std::vector<int32_t> tokens = some_tokens(40);
  const auto spoiled = [&](const std::string& tensor, size_t row, uint16_t bits, const TempDir& folder) {
    std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-qwen3-moe"));
    OwnTensor& t = find(tensors, tensor);
    std::memcpy(&t.bytes[row * (t.bytes.size() / size_t(t.shape[0]))], &bits, 2);
    write_model(folder.path(), config_of("tiny-qwen3-moe"), tensors);
  };
  const std::string layer = "model.layers.1.";
  for (const std::string& tensor :
       {layer + "self_attn.k_proj.weight", layer + "input_layernorm.weight",
        layer + "self_attn.o_proj.weight", layer + "mlp.gate.weight", std::string("model.norm.weight")}) {
    INFO(tensor);
    const TempDir folder;
    spoiled(tensor, 5, 0x7fc0, folder);
    const Checkpoint model(folder.path());
    const Error want = error_of([&] { run_forward(model, tokens, 0); });
    const Error got = error_of([&] { run_cuda(model, tokens, 0, with_type(ComputeType::fp32)); });
    CHECK(got.code == Exit::nonfinite);
    CHECK(std::string(got.what()) == want.what());
  }
  const Checkpoint good(trained_model("tiny-llama"));
  const Error e = error_of([&] {
    run_cuda(good, tokens, 0, with_type(ComputeType::fp32), true, [](LayerActivations& a) {
      const float nan = NAN;
      const cuda::Stream stream(a.stream);
      cuda::upload(a.v + 7 * 2 * 128 + 3, &nan, sizeof nan, stream);
      stream.synchronize();
    });
  });
  CHECK_THAT(e.what(), ContainsSubstring("model.layers.0.self_attn.v: token 7: not finite"));
}

TEST_CASE("what the GPU does not do is said before it starts") {
  if (!has_device()) return;
  RandomCheckpoint spec;
  spec.config = config_of("tiny-llama");
  spec.config["head_dim"] = 320;
  const TempDir folder;
  write_random_checkpoint(spec, folder.path());
  const Checkpoint model(folder.path());
  const std::vector<int32_t> tokens = some_tokens(4);
  const Error e = error_of([&] { run_cuda(model, tokens, 0, CudaOptions()); });
  CHECK(e.code == Exit::device);
  CHECK(e.hint == "--device cpu");
  CHECK_THAT(e.what(), ContainsSubstring(
                           "model_type llama is not supported on the GPU: head dimension 320, at most 256"));

  CudaOptions far;
  far.device = 999;
  CHECK_THAT(error_of([&] { make_cuda_backend(far); }).what(),
             ContainsSubstring("cuda:999: no such device: 0 to "));
}
