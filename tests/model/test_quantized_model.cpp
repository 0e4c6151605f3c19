// A folder with quantized matrices is the folder of their numbers, bit for bit.
#include "captured.h"
#include "catch.h"
#include "hf/quantized_of.h"
#include "model/weights.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("a folder in FP8 computes what its numbers in float32 compute, bit for bit", "[quantized]") {
  TempDir dir;
  const std::vector<int32_t> tokens = some_tokens(40);
  for (const std::string name :
       {"tiny-llama", "tiny-qwen2", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"}) {
    for (const Fp8Kind& kind : kFp8Kinds) {
      CAPTURE(name, kind.name);
      const QuantizedTensors tensors = quantized_tensors(trained_model(name), kind);
      write_folder(dir / "a", trained_model(name), tensors.stored, kind.config);
      write_folder(dir / "b", trained_model(name), tensors.plain, nullptr);
      const Checkpoint quantized(dir / "a"), plain(dir / "b");
      CHECK(quantized.tensors().size() == plain.tensors().size());
      const std::vector<std::string> remarks = check_weights(quantized);
      REQUIRE(remarks.size() == 1);  // of activations, and none of tensors without a place
      CHECK_THAT(remarks[0], ContainsSubstring("activations are left as they are"));
      CHECK((run_forward(quantized, tokens, 16) == run_forward(plain, tokens, 16)));
    }
  }
}

TEST_CASE("a layer in FP8 holds half of what it holds in bf16, and its scales", "[quantized]") {
  TempDir dir;
  const fs::path model = trained_model("tiny-llama");
  write_folder(dir / "a", model, quantized_tensors(model, kFp8Kinds[0]).stored, kFp8Kinds[0].config);
  const Checkpoint quantized(dir / "a"), plain(model);
  int64_t matrices = 0, scales = 0, vectors = 0;
  const LayerWeights layer = layer_weights(plain, 0);
  for (const Tensor* t : layer.all()) {
    if (t->shape.size() == 1) {
      vectors += 2 * t->elements();
    } else {
      matrices += t->elements();
      scales += (t->shape[0] + 127) / 128 * ((t->shape[1] + 127) / 128) * 4;
    }
  }
  CHECK(plan_memory(plain, 64, 0, false).layer_bytes == 2 * matrices + vectors);
  CHECK(plan_memory(quantized, 64, 0, false).layer_bytes == matrices + scales + vectors);
}
