#include <filesystem>

#include "catch.h"
#include "config_samples.h"
#include "hf/config.h"

using namespace blockgtq;
using namespace blockgtq::test;
namespace fs = std::filesystem;

TEST_CASE("config: llama 3.1", "[config]") {
  const Config c = parse(kLlama31);
  CHECK(c.model_type == "llama");
  CHECK(c.dialect == Dialect::llama);
  CHECK(c.attention == AttentionKind::gqa);
  CHECK(c.n_layers == 32);
  CHECK(c.hidden == 4096);
  CHECK(c.intermediate == 14336);
  CHECK(c.vocab == 128256);
  CHECK(c.n_heads == 32);
  CHECK(c.n_kv_heads == 8);
  CHECK(c.group() == 4);
  CHECK(c.head_dim == 128);
  CHECK(c.v_dim == 128);
  CHECK(c.rms_eps == 1e-5);
  CHECK_FALSE(c.tied);
  CHECK_FALSE(c.qkv_bias);
  CHECK_FALSE(c.o_bias);
  CHECK_FALSE(c.mlp_bias);
  CHECK(c.qk_norm == QkNorm::none);
  CHECK(c.max_position == 131072);
  CHECK(c.sliding_window() == 0);
  CHECK(c.rope.type == RopeType::llama3);
  CHECK(c.rope.pairing == Pairing::half);
  CHECK(c.rope.rotary_dim == 128);
  CHECK(c.rope.theta == 500000);
  CHECK(c.rope.factor == 8);
  CHECK(c.rope.low_freq_factor == 1);
  CHECK(c.rope.high_freq_factor == 4);
  CHECK(c.rope.original_max_position == 8192);
  CHECK(c.moe.n_experts == 0);
  CHECK(c.layer_is_moe == std::vector<bool>(32, false));
  CHECK(c.torch_dtype == "bfloat16");
  CHECK(c.blocks() == BlockLayout{128, 128, Pairing::half});
}

TEST_CASE("config: mistral, qwen2, qwen3", "[config]") {
  const Config m = parse(kMistralNemo);
  CHECK(m.head_dim == 128);  // not 5120 / 32
  CHECK(m.n_kv_heads == 8);
  CHECK_FALSE(m.qkv_bias);
  CHECK(m.sliding_window() == 0);
  CHECK(m.rope.type == RopeType::standard);
  CHECK(m.rope.theta == 1e6);

  const Config q2 = parse(kQwen25);
  CHECK(q2.head_dim == 128);
  CHECK(q2.n_kv_heads == 2);
  CHECK(q2.qkv_bias);
  CHECK_FALSE(q2.o_bias);
  CHECK(q2.qk_norm == QkNorm::none);
  CHECK(q2.tied);
  CHECK(q2.sliding_window() == 0);

  const Config q3 = parse(kQwen3);
  CHECK(q3.head_dim == 128);  // not 2560 / 32
  CHECK(q3.qk_norm == QkNorm::head);
  CHECK_FALSE(q3.qkv_bias);
  CHECK(q3.rope.theta == 1e6);
}

TEST_CASE("config: qwen3_moe", "[config]") {
  const Config c = parse(kQwen3Moe);
  CHECK(c.dialect == Dialect::llama);
  CHECK(c.qk_norm == QkNorm::head);
  CHECK(c.moe.n_experts == 128);
  CHECK(c.moe.n_per_token == 8);
  CHECK(c.moe.intermediate == 768);
  CHECK(c.moe.n_shared == 0);
  CHECK(c.moe.normalize_top_k);
  CHECK(c.moe.routed_scale == 1);
  CHECK(c.layer_is_moe == std::vector<bool>(48, true));

  Json renamed = Json::parse(kQwen3Moe);
  renamed.erase("num_experts");
  renamed["num_local_experts"] = 64;
  CHECK(parse(renamed.dump()).moe.n_experts == 64);
  const Config sparse =
      parse(patched(kQwen3Moe, R"({"decoder_sparse_step": 2, "mlp_only_layers": [1, 47]})"));
  for (int i = 0; i < 48; ++i) CHECK(sparse.layer_is_moe[size_t(i)] == (i % 2 == 1 && i != 1 && i != 47));
  const Config dense = parse(patched(kQwen3Moe, R"({"decoder_sparse_step": 49})"));
  CHECK(dense.moe.n_experts == 0);
  CHECK_FALSE(parse(without(kQwen3Moe, "norm_topk_prob")).moe.normalize_top_k);
}

TEST_CASE("config: glm and chatglm tell the same model", "[config]") {
  const Config g = parse(kGlm);
  CHECK(g.dialect == Dialect::glm);
  CHECK(g.rope.pairing == Pairing::interleaved);
  CHECK(g.rope.rotary_dim == 64);
  CHECK(g.qkv_bias);
  CHECK_FALSE(g.o_bias);
  CHECK(g.blocks().n_rotary() == 32);
  CHECK(parse(without(kGlm, "partial_rotary_factor")).rope.rotary_dim == 64);

  const Config c = parse(kChatGlm);
  CHECK(c.dialect == Dialect::chatglm);
  CHECK(c.n_layers == 40);
  CHECK(c.vocab == 151552);
  CHECK(c.intermediate == 13696);
  CHECK(c.n_kv_heads == 2);
  CHECK(c.head_dim == 128);
  CHECK(c.v_dim == 128);
  CHECK(c.rms_eps == 1.5625e-07);
  CHECK(c.max_position == 131072);
  CHECK(c.qkv_bias);
  CHECK_FALSE(c.o_bias);
  CHECK(c.blocks() == g.blocks());
  CHECK(c.rope.theta == 5e6);  // 10000 * 500
  CHECK(parse(without(kChatGlm, "rope_ratio")).rope.theta == 1e4);
  CHECK(parse(patched(kChatGlm, R"({"add_qkv_bias": false, "add_bias_linear": true})")).o_bias);
  CHECK(parse(without(kChatGlm, "layernorm_epsilon")).rms_eps == 1e-5);
}

TEST_CASE("config: deepseek_v2", "[config]") {
  const Config c = parse(kDeepSeekV2);
  CHECK(c.dialect == Dialect::deepseek);
  CHECK(c.attention == AttentionKind::mla);
  CHECK(c.mla.q_lora_rank == 0);
  CHECK(c.mla.kv_lora_rank == 512);
  CHECK(c.mla.nope_dim == 128);
  CHECK(c.mla.rope_dim == 64);
  CHECK(c.mla.v_dim == 128);
  CHECK(c.n_kv_heads == 1);
  CHECK(c.n_heads == 16);
  CHECK(c.group() == 16);
  CHECK(c.head_dim == 64);
  CHECK(c.v_dim == 0);
  CHECK(c.blocks() == BlockLayout{64, 64, Pairing::interleaved});
  CHECK(c.rope.type == RopeType::yarn);
  CHECK(c.rope.factor == 40);
  CHECK(c.rope.original_max_position == 4096);
  CHECK(c.rope.mscale == 0.707);
  CHECK(c.rope.mscale_all_dim == 0.707);
  CHECK(c.moe.n_experts == 64);
  CHECK(c.moe.n_shared == 2);
  CHECK(c.moe.n_group == 1);
  CHECK(c.moe.topk_group == 1);
  CHECK_FALSE(c.layer_is_moe[0]);
  CHECK(c.layer_is_moe[1]);
  CHECK(c.layer_is_moe[26]);

  CHECK(parse(patched(kDeepSeekV2, R"({"q_lora_rank": 1536})")).mla.q_lora_rank == 1536);
  const Config grouped =
      parse(patched(kDeepSeekV2, R"({"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3,
                               "routed_scaling_factor": 16.0})"));
  CHECK(grouped.moe.n_group == 8);
  CHECK(grouped.moe.topk_group == 3);
  CHECK(grouped.moe.routed_scale == 16);
  const Config every = parse(patched(kDeepSeekV2, R"({"moe_layer_freq": 2})"));
  CHECK_FALSE(every.layer_is_moe[1]);
  CHECK(every.layer_is_moe[2]);
  CHECK(parse(patched(kDeepSeekV2, R"({"n_routed_experts": null})")).moe.n_experts == 0);
  CHECK(parse(patched(kDeepSeekV2, R"({"n_shared_experts": null})")).moe.n_shared == 0);
}

TEST_CASE("config: what transformers assumes for absent keys", "[config]") {
  CHECK(parse(without(kLlama31, "num_key_value_heads")).n_kv_heads == 32);
  CHECK(parse(patched(kLlama31, R"({"num_key_value_heads": null})")).n_kv_heads == 32);
  CHECK(parse(without(kQwen25, "num_key_value_heads")).n_kv_heads == 16);
  CHECK(parse(without(kMistralNemo, "num_key_value_heads")).n_kv_heads == 8);
  CHECK(parse(patched(kMistralNemo, R"({"num_key_value_heads": null})")).n_kv_heads == 32);
  CHECK(parse(without(kGlm, "num_key_value_heads")).n_kv_heads == 2);
  CHECK(parse(without(kMistralNemo, "head_dim")).head_dim == 160);  // 5120 / 32
  CHECK(parse(without(kQwen3, "head_dim")).head_dim == 128);
  CHECK(parse(patched(kQwen3, R"({"head_dim": null})")).head_dim == 80);  // 2560 / 32
  CHECK(parse(without(kLlama31, "rms_norm_eps")).rms_eps == 1e-6);
  CHECK(parse(without(kGlm, "rms_norm_eps")).rms_eps == 1.5625e-7);
  CHECK_FALSE(parse(without(kQwen25, "tie_word_embeddings")).tied);
  CHECK(parse(without(kGlm, "attention_bias")).qkv_bias);
  CHECK_FALSE(parse(patched(kGlm, R"({"attention_bias": false})")).qkv_bias);
  const Config biased = parse(patched(kLlama31, R"({"attention_bias": true, "mlp_bias": true})"));
  CHECK(biased.qkv_bias);
  CHECK(biased.o_bias);
  CHECK(biased.mlp_bias);
  CHECK(parse(patched(kQwen25, R"({"attention_bias": false})")).qkv_bias);  // qwen2 has them always
  CHECK(parse(without(kLlama31, "hidden_act")).hidden == 4096);
}

TEST_CASE("config: sliding windows", "[config]") {
  const auto window = [](const char* sample, const std::string& patch) {
    return parse(patched(sample, patch)).sliding_window();
  };
  CHECK(window(kMistralNemo, R"({"sliding_window": 1024})") == 1024);
  CHECK(parse(without(kMistralNemo, "sliding_window")).sliding_window() == 4096);
  CHECK(window(kQwen25, R"({"use_sliding_window": true, "max_window_layers": 28})") == 32768);
  CHECK(window(kQwen25, R"({"use_sliding_window": true, "max_window_layers": 35})") == 32768);
  CHECK(window(kQwen25, R"({"use_sliding_window": true, "max_window_layers": 36})") == 0);
  CHECK(window(kQwen25, R"({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0})") ==
        0);
  CHECK(window(kQwen25, R"({"use_sliding_window": false, "max_window_layers": 0})") == 0);
  CHECK(window(kQwen3Moe, R"({"use_sliding_window": true, "sliding_window": 4096})") == 4096);
  const std::string full = "\"full_attention\",\"full_attention\"",
                    mixed = "\"full_attention\",\"sliding_attention\"";
  const auto typed = [&](const char* sample, const std::string& types, const std::string& more) {
    return patched(sample, "{\"num_hidden_layers\":2,\"layer_types\":[" + types + "]" + more + "}");
  };
  CHECK(parse(typed(kQwen25, full, R"(,"use_sliding_window":true,"max_window_layers":0)")).sliding_window() ==
        0);
  CHECK(parse(typed(kQwen25, mixed, R"(,"use_sliding_window":true)")).sliding_window() == 32768);
  CHECK_THAT(error_of(typed(kLlama31, mixed, R"(,"sliding_window":512)")),
             ContainsSubstring("\"sliding_attention\" is not supported for llama: full_attention"));
  CHECK_THAT(error_of(typed(kMistralNemo, mixed, R"(,"sliding_window":512)")),
             ContainsSubstring("layer_types: unlike sliding_window"));
  CHECK(parse(typed(kLlama31, full, R"(,"sliding_window":512)")).sliding_window() == 0);
  CHECK_THAT(error_of(typed(kQwen3, mixed, "")), ContainsSubstring("sliding_window: missing"));
  CHECK_THAT(error_of(typed(kQwen3, full + ",\"full_attention\"", "")), ContainsSubstring("layer_types"));
  CHECK_THAT(error_of(typed(kQwen3, "\"full_attention\",\"linear_attention\"", "")),
             ContainsSubstring("\"linear_attention\" is not supported"));
}

TEST_CASE("config: both spellings of RoPE", "[config]") {
  const auto rope = [](const char* sample, const std::string& patch) {
    return parse(patched(sample, patch)).rope;
  };
  Json json = Json::parse(kLlama31);
  Json scaling = json["rope_scaling"];
  json.erase("rope_scaling");
  json.erase("rope_theta");
  scaling["rope_theta"] = 500000.0;
  json["rope_parameters"] = scaling;
  const RopeConfig now = parse(json.dump()).rope;
  CHECK(now.type == RopeType::llama3);
  CHECK(now.theta == 500000);
  // both, and they agree
  json["rope_theta"] = 500000;
  json["rope_scaling"] = {{"type", "llama3"}, {"factor", 8}};
  CHECK(parse(json.dump()).rope.factor == 8);
  json["rope_scaling"]["factor"] = 4;
  CHECK_THAT(error_of(json.dump()),
             ContainsSubstring("rope_scaling.factor: 4 differs from rope_parameters.factor: 8"));
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 8}};
  CHECK_THAT(error_of(json.dump()), ContainsSubstring("differs"));
  json.erase("rope_scaling");
  json["rope_theta"] = 10000;
  CHECK_THAT(error_of(json.dump()),
             ContainsSubstring("rope_theta: 10000 differs from rope_parameters.rope_theta: 500000"));

  CHECK(rope(kQwen25, R"({"rope_scaling": {"type": "linear", "factor": 2}})").factor == 2);
  const RopeConfig dynamic = rope(kQwen25, R"({"rope_scaling": {"type": "dynamic", "factor": 2.5}})");
  CHECK(dynamic.type == RopeType::dynamic);
  CHECK(dynamic.factor == 2.5);
  CHECK(dynamic.original_max_position == 32768);
  // as Qwen2.5's model card tells users to put in
  const RopeConfig yarn =
      rope(kQwen25,
           R"({"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 8192, "type": "yarn"}})");
  CHECK(yarn.type == RopeType::yarn);
  CHECK(yarn.original_max_position == 8192);
  CHECK(yarn.beta_fast == 32);
  CHECK(yarn.beta_slow == 1);
  CHECK(yarn.truncate);
  CHECK_FALSE(yarn.mscale);
  const RopeConfig fallback =
      rope(kQwen25, R"({"rope_scaling": {"factor": 4.0, "rope_type": "yarn", "truncate": false,
     "attention_factor": 1.25, "beta_fast": 16, "beta_slow": 2}})");
  CHECK(fallback.original_max_position == 32768);
  CHECK_FALSE(fallback.truncate);
  CHECK(fallback.attention_factor == 1.25);
  CHECK(fallback.beta_fast == 16);
  CHECK(rope(kQwen25, R"({"rope_scaling": {"factor": null, "rope_type": "yarn",
     "original_max_position_embeddings": 8192}})")
            .factor == 4);
  CHECK(rope(kLlama31, R"({"rope_scaling": {"rope_type": "default"}})").type == RopeType::standard);
  CHECK(rope(kLlama31, R"({"rope_scaling": {}})").type == RopeType::standard);
  CHECK(rope(kGlm, R"({"partial_rotary_factor": 0.25})").rotary_dim == 32);
  CHECK(rope(kGlm, R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})")
            .rotary_dim == 64);
  CHECK(std::string(name(RopeType::standard)) == "default");
  CHECK(std::string(name(RopeType::yarn)) == "yarn");
}

TEST_CASE("config: the limits themselves are allowed", "[config]") {
  CHECK(parse(patched(kLlama31, R"({"num_hidden_layers": 1024})")).layer_is_moe.size() == 1024);
  CHECK(parse(patched(kLlama31, R"({"num_attention_heads": 1024, "num_key_value_heads": 1024})")).head_dim ==
        4);
  CHECK(parse(patched(kLlama31, R"({"head_dim": 512})")).head_dim == 512);
  CHECK(parse(patched(kLlama31, R"({"head_dim": 2})")).rope.rotary_dim == 2);
  CHECK(parse(patched(kLlama31, R"({"vocab_size": 16777216})")).vocab == 16777216);
}

TEST_CASE("config: the models of data/", "[config]") {
  for (const char* model :
       {"tiny-llama", "tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-qwen2-gqa8", "tiny-qwen2-hd64",
        "tiny-qwen3", "tiny-qwen3-moe", "tiny-glm", "tiny-deepseek2"}) {
    INFO(model);
    const fs::path path = fs::path(BLOCKGTQ_SOURCE_DIR) / "data/models" / model / "config.json";
    const Config c = parse_config(read_json(path, kMaxConfigBytes), path.string());
    CHECK(c.tied);
    CHECK(c.vocab == 2048);
    CHECK((c.head_dim == 64 || c.head_dim == 128));
    CHECK(c.max_position == 4096);
  }
}

TEST_CASE("config: every sample's blocks cover its head", "[config]") {
  for (const char* sample :
       {kLlama31, kMistralNemo, kQwen25, kQwen3, kQwen3Moe, kGlm, kChatGlm, kDeepSeekV2}) {
    const Config c = parse(sample);
    INFO(c.model_type);
    CHECK(c.blocks().n_blocks() == c.head_dim / 2);
    CHECK(c.blocks().n_rotary() == c.rope.rotary_dim / 2);
  }
  const Config mixtral = parse(patched(
      kMistralNemo, R"({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2})"));
  CHECK(mixtral.moe.n_experts == 8);
  CHECK(mixtral.blocks() == BlockLayout{128, 128, Pairing::half});

  // Sigmoid scores, groups, and weights in FP8 by blocks.
  const Config v3 = parse(patched(kDeepSeekV2, R"({"model_type": "deepseek_v3", "q_lora_rank": 1536,
     "n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "norm_topk_prob": true,
     "scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 2.5,
     "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}})"));
  CHECK(v3.attention == AttentionKind::mla);
  CHECK(v3.moe.n_experts == 256);
  CHECK(v3.blocks() == BlockLayout{64, 64, Pairing::interleaved});
}
