#include "model/weights.h"

#include <fmt/format.h>

#include <set>

#include "base/expect_error.h"
#include "base/float16.h"
#include "captured.h"
#include "catch.h"
#include "worse.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

const char* const kTrained[] = {"tiny-deepseek2", "tiny-glm",      "tiny-llama",      "tiny-llama3",
                                "tiny-mistral",   "tiny-qwen2",    "tiny-qwen2-gqa8", "tiny-qwen2-hd64",
                                "tiny-qwen3",     "tiny-qwen3-moe"};

/// tiny-glm's weights under the names of THUDM/glm-4-9b: q, k and v in one tensor.
std::vector<OwnTensor> as_chatglm(std::vector<OwnTensor> glm, int n_layers) {
  std::vector<OwnTensor> out;
  const auto take = [&](const std::string& from, const std::string& to) {
    out.push_back(find(glm, from));
    out.back().name = to;
  };
  const auto fuse = [&](const std::string& from, const std::string& to, const std::string& kind) {
    OwnTensor fused = find(glm, from + "q_proj." + kind);
    for (const char* part : {"k_proj.", "v_proj."}) {
      const OwnTensor& t = find(glm, from + part + kind);
      fused.shape[0] += t.shape[0];
      fused.bytes += t.bytes;
    }
    fused.name = to + "query_key_value." + kind;
    out.push_back(fused);
  };
  take("model.embed_tokens.weight", "transformer.embedding.word_embeddings.weight");
  take("model.embed_tokens.weight", "transformer.output_layer.weight");
  take("model.norm.weight", "transformer.encoder.final_layernorm.weight");
  for (int l = 0; l < n_layers; ++l) {
    const std::string from = fmt::format("model.layers.{}.", l),
                      to = fmt::format("transformer.encoder.layers.{}.", l);
    take(from + "input_layernorm.weight", to + "input_layernorm.weight");
    take(from + "post_attention_layernorm.weight", to + "post_attention_layernorm.weight");
    fuse(from + "self_attn.", to + "self_attention.", "weight");
    fuse(from + "self_attn.", to + "self_attention.", "bias");
    take(from + "self_attn.o_proj.weight", to + "self_attention.dense.weight");
    take(from + "mlp.gate_up_proj.weight", to + "mlp.dense_h_to_4h.weight");
    take(from + "mlp.down_proj.weight", to + "mlp.dense_4h_to_h.weight");
  }
  return out;
}

Json chatglm_config() {
  return Json::parse(R"({"model_type": "chatglm", "hidden_size": 128, "ffn_hidden_size": 384, "num_layers": 4,
    "num_attention_heads": 4, "multi_query_attention": true, "multi_query_group_num": 1, "kv_channels": 128,
    "padded_vocab_size": 2048, "seq_length": 4096, "layernorm_epsilon": 1.5625e-07, "rmsnorm": true,
    "post_layer_norm": true, "apply_residual_connection_post_layernorm": false, "add_bias_linear": false,
    "add_qkv_bias": true, "original_rope": true, "rope_ratio": 1, "tie_word_embeddings": false})");
}

}  // namespace

TEST_CASE("expected tensors are those of the trained models, no more and no fewer") {
  for (const char* name : kTrained) {
    INFO(name);
    const Checkpoint model(trained_model(name));
    CHECK_NOTHROW(check_weights(model));
    std::set<std::string> expected, found;
    for (const auto& [tensor, shape] : expected_tensors(model.config())) {
      CHECK(expected.insert(tensor).second);
      CHECK(model.get(tensor, shape).shape == shape);
    }
    for (const OwnTensor& t : tensors_of(trained_model(name))) found.insert(t.name);
    CHECK(expected == found);
  }
}

TEST_CASE("a chatglm checkpoint is the glm one under other names") {
  const TempDir dir;
  write_model(dir.path(), chatglm_config(), as_chatglm(tensors_of(trained_model("tiny-glm")), 4));
  const Checkpoint fused(dir.path()), plain(trained_model("tiny-glm"));
  CHECK_NOTHROW(check_weights(fused));
  CHECK(attention_module(fused.config(), 2) == "transformer.encoder.layers.2.self_attention");
  CHECK(attention_module(plain.config(), 2) == "model.layers.2.self_attn");
  const std::vector<int32_t> tokens = some_tokens(90);
  CHECK(run_forward(fused, tokens, 64) == run_forward(plain, tokens, 64));
}

TEST_CASE("the row of a fused tensor is named as the file counts") {
  const TempDir dir;
  std::vector<OwnTensor> tensors = as_chatglm(tensors_of(trained_model("tiny-glm")), 4);
  OwnTensor& qkv = find(tensors, "transformer.encoder.layers.1.self_attention.query_key_value.weight");
  const size_t row = 4 * 128 + 3;  // the fourth row of k
  qkv.bytes[(row * 128 + 7) * 2 + 1] = char(0x7f);
  qkv.bytes[(row * 128 + 7) * 2] = char(0xc0);
  write_model(dir.path(), chatglm_config(), tensors);
  const std::vector<int32_t> tokens = some_tokens(9);
  CHECK(expect_error(Exit::nonfinite, [&] { run_forward(Checkpoint(dir.path()), tokens, 0); }) ==
        (dir / "model.safetensors").string() +
            ": transformer.encoder.layers.1.self_attention.query_key_value.weight: row 515: not finite");
}

TEST_CASE("F32 weights give the same numbers as the BF16 they came from, F16 nearly") {
  const std::vector<int32_t> tokens = some_tokens(40);
  const Captured want = run_forward(Checkpoint(trained_model("tiny-qwen2")), tokens, 0);
  for (const std::string dtype : {"F32", "F16"}) {
    std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-qwen2"));
    for (OwnTensor& t : tensors) {
      std::string bytes;
      for (size_t i = 0; i < t.bytes.size(); i += 2) {
        uint16_t bits;
        std::memcpy(&bits, t.bytes.data() + i, 2);
        const float value = from_bf16(bits);
        const uint16_t half = to_half(value);
        if (dtype == "F32") {
          bytes.append(reinterpret_cast<const char*>(&value), 4);
        } else {
          bytes.append(reinterpret_cast<const char*>(&half), 2);
        }
      }
      t.dtype = dtype;
      t.bytes = bytes;
    }
    const TempDir dir;
    write_model(dir.path(), config_of("tiny-qwen2"), tensors);
    const Captured got = run_forward(Checkpoint(dir.path()), tokens, 0);
    if (dtype == "F32") {
      CHECK(got == want);
    } else {
      // bf16 has 8 bits and half 11, so only values below half's normal range (6e-5) change, by at most 3e-8.
      double worst = 0;
      for (size_t i = 0; i < got.logits.size(); ++i)
        worst = worse(worst, std::abs(double(got.logits[i]) - double(want.logits[i])));
      CHECK(worst < 1e-3);
    }
  }
}

TEST_CASE("a missing or mis-shaped tensor is named before any work") {
  struct Case {
    const char* model;
    const char* tensor;
  };
  const Case cases[] = {{"tiny-llama", "model.embed_tokens.weight"},
                        {"tiny-llama", "model.norm.weight"},
                        {"tiny-llama", "model.layers.3.mlp.up_proj.weight"},
                        {"tiny-qwen2", "model.layers.2.self_attn.k_proj.bias"},
                        {"tiny-qwen3", "model.layers.1.self_attn.q_norm.weight"},
                        {"tiny-qwen3-moe", "model.layers.1.mlp.experts.7.down_proj.weight"},
                        {"tiny-qwen3-moe", "model.layers.0.mlp.gate.weight"},
                        {"tiny-glm", "model.layers.0.mlp.gate_up_proj.weight"},
                        {"tiny-deepseek2", "model.layers.1.mlp.shared_experts.up_proj.weight"},
                        {"tiny-deepseek2", "model.layers.0.self_attn.kv_a_layernorm.weight"}};
  for (const Case& c : cases) {
    INFO(c.tensor);
    for (const bool missing : {true, false}) {
      std::vector<OwnTensor> tensors = tensors_of(trained_model(c.model));
      OwnTensor& t = find(tensors, c.tensor);
      if (missing) {
        t.name += "x";
      } else {
        t.shape.push_back(1);
      }
      const TempDir dir;
      write_model(dir.path(), config_of(c.model), tensors);
      const Checkpoint model(dir.path());
      const std::string what = expect_error(Exit::input, [&] { check_weights(model); });
      CHECK_THAT(what, ContainsSubstring(c.tensor));
      CHECK_THAT(what, ContainsSubstring(dir.path().string()));
    }
  }
}
