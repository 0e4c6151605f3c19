// A model from a GGUF file is the Hugging Face model, number by number.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/expect_error.h"
#include "base/float16.h"
#include "captured.h"
#include "catch.h"
#include "hf/gguf_of.h"
#include "model/fold.h"
#include "model/weights.h"
#include "worse.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

const char* const kModels[] = {"tiny-llama",      "tiny-llama3",     "tiny-mistral", "tiny-qwen2",
                               "tiny-qwen2-gqa8", "tiny-qwen2-hd64", "tiny-qwen3",   "tiny-qwen3-moe"};

/// What as_q8_0 wrote, as float32.
std::string from_q8_0(const std::string& blocks) {
  std::string out;
  for (size_t i = 0; i < blocks.size(); i += 34) {
    const float scale = from_half(uint16_t(uint8_t(blocks[i]) | uint8_t(blocks[i + 1]) << 8));
    for (size_t j = 0; j < 32; ++j) out += raw(scale * float(int8_t(blocks[i + 2 + j])));
  }
  return out;
}

void check_same_rope(const RopeConfig& a, const RopeConfig& b, int max_position) {
  CHECK(a.rotary_dim == b.rotary_dim);
  for (const int64_t length : {int64_t(1), int64_t(max_position)}) {
    const RopeFrequencies x = rope_frequencies(a, max_position, length),
                          y = rope_frequencies(b, max_position, length);
    CHECK(x.inv_freq == y.inv_freq);
    CHECK(x.attention_factor == y.attention_factor);
  }
}

void check_same_config(const Config& a, const Config& b) {
  CHECK(a.head_dim == b.head_dim);
  CHECK(a.intermediate == b.intermediate);
  CHECK(a.qkv_bias == b.qkv_bias);
  CHECK(a.o_bias == b.o_bias);
  CHECK(a.mlp_bias == b.mlp_bias);
  CHECK(a.attention_scale == b.attention_scale);
  CHECK(a.attention_softcap == b.attention_softcap);
  CHECK(a.logits_softcap == b.logits_softcap);
  CHECK(a.embedding_multiplier == b.embedding_multiplier);
  CHECK(a.residual_multiplier == b.residual_multiplier);
  CHECK(a.logits_multiplier == b.logits_multiplier);
  CHECK(a.activation == b.activation);
  CHECK(a.swiglu_limit == b.swiglu_limit);
  CHECK(a.layer_is_moe == b.layer_is_moe);
  CHECK((a.layer_attention == b.layer_attention));
  CHECK(a.moe.n_experts == b.moe.n_experts);
  CHECK(a.moe.n_per_token == b.moe.n_per_token);
  CHECK(a.moe.intermediate == b.moe.intermediate);
  CHECK(a.moe.shared_intermediate == b.moe.shared_intermediate);
  CHECK(a.moe.normalize_top_k == b.moe.normalize_top_k);
  CHECK(a.n_layers == b.n_layers);
  CHECK(a.n_kv_heads == b.n_kv_heads);
  CHECK(a.rms_eps == b.rms_eps);
  CHECK(a.tied == b.tied);
  CHECK(a.vocab == b.vocab);
  CHECK(a.max_position == b.max_position);
  check_same_rope(a.rope, b.rope, a.max_position);
  REQUIRE(a.local_rope.has_value() == b.local_rope.has_value());
  if (a.local_rope) check_same_rope(*a.local_rope, *b.local_rope, a.max_position);
}

/// Over all, as a share of the largest number.
double largest_difference(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference = worse(difference, std::abs(double(got[i]) - double(want[i])));
    largest = std::max(largest, std::abs(double(want[i])));
  }
  return difference / largest;
}

/// Layer l of n takes the weights of layer from(l).
void take_layers(std::vector<OwnTensor>& tensors, int n, const std::function<int(int)>& from) {
  std::vector<OwnTensor> out;
  for (const OwnTensor& t : tensors) {
    const std::string start = "model.layers.";
    if (!t.name.starts_with(start)) {
      out.push_back(t);
      continue;
    }
    const size_t dot = t.name.find('.', start.size());
    for (int l = 0; l < n; ++l) {
      if (t.name.substr(0, dot) != start + std::to_string(from(l))) continue;
      out.push_back(t);
      out.back().name = start + std::to_string(l) + t.name.substr(dot);
    }
  }
  tensors = std::move(out);
}

/// One of the tiny checkpoints, with what a GGUF file cannot say as llama.cpp has it: which layers have
/// experts, windows or no RoPE, and some numbers.
fs::path convertible(const std::string& name, const TempDir& dir) {
  const fs::path source = fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families" / name, out = dir / name;
  std::vector<OwnTensor> tensors = tensors_of(source);
  Json config = read_json(source / "config.json", kMaxConfigBytes);
  const auto grow = [&](int n) {
    take_layers(tensors, n, [](int l) { return l % 2; });
    config["num_hidden_layers"] = n;
    config["layer_types"] = Json(std::vector<std::string>(size_t(n), "full_attention"));
  };
  if (name == "qwen2_moe") {
    take_layers(tensors, 2, [](int) { return 1; });
    config["mlp_only_layers"] = Json::array();
  } else if (name == "smollm3") {
    grow(8);
    config["no_rope_layers"] = {1, 1, 1, 0, 1, 1, 1, 0};
  } else if (name == "gemma2") {
    config["query_pre_attn_scalar"] = config["head_dim"];
  } else if (name == "gemma3_text") {
    grow(7);
    for (const int l : {0, 1, 2, 3, 4, 6}) config["layer_types"][size_t(l)] = "sliding_attention";
    config["query_pre_attn_scalar"] = config["head_dim"];
    config["rope_parameters"]["full_attention"]["rope_theta"] = 1000000.0;
    config["rope_parameters"]["sliding_attention"]["rope_theta"] = 10000.0;
  } else if (name == "gpt_oss") {
    config["swiglu_limit"] = 7.0;
  }
  fs::create_directory(out);
  write_model(out, config, tensors);
  return out;
}

}  // namespace

TEST_CASE("a model from a GGUF file computes what its folder computes, bit for bit", "[gguf]") {
  TempDir dir;
  const std::vector<int32_t> tokens = some_tokens(40);
  for (const std::string name : kModels) {
    CAPTURE(name);
    const Checkpoint folder(trained_model(name));
    const Captured want = run_forward(folder, tokens, 16);
    gguf_of(trained_model(name)).write(dir / (name + ".gguf"));
    const Checkpoint model(dir / (name + ".gguf"));
    check_same_config(model.config(), folder.config());
    CHECK((run_forward(model, tokens, 16) == want));
  }
}

TEST_CASE("a GGUF file of every architecture computes what its folder computes", "[gguf]") {
  TempDir dir;
  const std::vector<int32_t> tokens = some_tokens(24, 64);
  for (const std::string name : {"mixtral", "qwen2_moe", "olmo2", "smollm3", "gemma2", "gemma3_text",
                                 "gpt_oss", "phi3", "phi3-longrope", "granite"}) {
    INFO(name);
    const fs::path path = convertible(name, dir), file = dir / (name + ".gguf");
    const Checkpoint folder(path);
    gguf_of(path).write(file);
    const Checkpoint model(file);
    CHECK(check_weights(model).empty());
    CHECK(model.config().model_type == folder.config().model_type);
    check_same_config(model.config(), folder.config());
    const Captured got = run_forward(model, tokens, 10), want = run_forward(folder, tokens, 10);
    if (name == "gpt_oss") {  // its folder has the experts transposed, whose products are summed otherwise
      CHECK(got.q[0] == want.q[0]);
      CHECK(largest_difference(got.logits, want.logits) <= 1e-6);
    } else {
      CHECK((got == want));
    }
  }
}

TEST_CASE("rules of an architecture that no key of a GGUF file tells", "[gguf]") {
  TempDir dir;
  const auto config = [&](const std::string& name, const std::function<void(GgufBuilder&)>& change) {
    const fs::path path = fs::exists(dir / name) ? dir / name : convertible(name, dir);
    GgufBuilder b = gguf_of(path);
    change(b);
    b.write(dir / "m.gguf");
    return Checkpoint(dir / "m.gguf").config();
  };
  // hidden 32, 4 heads of 12: the largest Gemma scales q by hidden / heads
  const Config gemma2 = config("gemma2", [](GgufBuilder& b) {
    b.integer("gemma2.block_count", 46).erase("gemma2.attention.sliding_window");
    b.erase("gemma2.attn_logit_softcapping").erase("gemma2.final_logit_softcapping");
  });
  CHECK(gemma2.attention_scale == 1 / std::sqrt(8.0));
  CHECK(gemma2.norm_offset == 0);
  CHECK(gemma2.attention_softcap == 50);
  CHECK(gemma2.logits_softcap == 30);
  CHECK(gemma2.layer_attention[44].window == 4096);
  CHECK(gemma2.layer_attention[45].window == 0);
  const Config gemma3 = config("gemma3_text", [](GgufBuilder& b) {
    b.integer("gemma3.block_count", 62).number("gemma3.rope.freq_base_swa", 500);
  });
  CHECK(gemma3.attention_scale == 1 / std::sqrt(8.0));
  CHECK(gemma3.local_rope->theta == 500);
  CHECK(gemma3.rope.type == RopeType::linear);
  CHECK(gemma3.rope.factor == 2);
  const Config partial = config("phi3", [](GgufBuilder& b) { b.integer("phi3.rope.dimension_count", 6); });
  CHECK(partial.rope.rotary_dim == 6);
  const Config windowed =
      config("mixtral", [](GgufBuilder& b) { b.integer("llama.attention.sliding_window", 9); });
  CHECK(windowed.layer_attention[1].window == 9);

  const auto error = [&](const std::string& name, const std::function<void(GgufBuilder&)>& change) {
    return expect_error(Exit::input, [&] { config(name, change); });
  };
  CHECK_THAT(error("phi3", [](GgufBuilder& b) { b.erase("phi3.attention.sliding_window"); }),
             ContainsSubstring("phi3.attention.sliding_window: missing"));
  CHECK_THAT(error("gemma3_text", [](GgufBuilder& b) { b.erase("gemma3.attention.sliding_window"); }),
             ContainsSubstring("gemma3.attention.sliding_window: missing"));
  CHECK_THAT(error("gemma3_text", [](GgufBuilder& b) { b.erase("gemma3.rope.freq_base"); }),
             ContainsSubstring("gemma3.rope.freq_base: missing"));
  CHECK_THAT(error("gemma3_text", [](GgufBuilder& b) { b.erase("gemma3.rope.scaling.type"); }),
             ContainsSubstring("gemma3.rope.scaling.type: missing beside rope.scaling.factor"));
  CHECK_THAT(error("olmo2", [](GgufBuilder& b) { b.integer("olmo2.attention.sliding_window", 4096); }),
             ContainsSubstring("olmo2.attention.sliding_window: 4096 is not supported: 0"));
  CHECK_THAT(error("gemma2", [](GgufBuilder& b) { b.number("gemma2.rope.freq_base_swa", 500); }),
             ContainsSubstring("gemma2.rope.freq_base_swa: 500 is not supported"));
  CHECK_THAT(error("granite", [](GgufBuilder& b) { b.erase("granite.logit_scale"); }),
             ContainsSubstring("granite.logit_scale: missing"));
  CHECK_THAT(error("granite", [](GgufBuilder& b) { b.flag("granite.rope.scaling.finetuned", false); }),
             ContainsSubstring("granite.rope.scaling.finetuned: false is not supported"));
  CHECK_THAT(error("qwen2_moe", [](GgufBuilder& b) { b.integer("qwen2moe.expert_gating_func", 2); }),
             ContainsSubstring("qwen2moe.expert_gating_func: 2 is not supported: 1"));
  CHECK_THAT(
      error("olmo2",
            [](GgufBuilder& b) { b.entry("blk.0.post_ffw_norm.weight").name = "blk.0.ffn_norm.weight"; }),
      ContainsSubstring("another one of the file has its place: model.layers.0.post_attention_layernorm"));
  CHECK_THAT(error("phi3-longrope",
                   [](GgufBuilder& b) { b.entry("rope_factors_long.weight").name = "rope_factors.weight"; }),
             ContainsSubstring("rope_factors_long.weight: the tensor is missing"));
}

TEST_CASE("quantized weights are their numbers, wherever they are read", "[gguf]") {
  TempDir dir;
  const std::vector<int32_t> tokens = some_tokens(40);
  for (const std::string name : {"tiny-llama3", "tiny-qwen3-moe"}) {
    CAPTURE(name);
    gguf_of(trained_model(name), quantize).write(dir / (name + ".gguf"));
    std::vector<OwnTensor> tensors = tensors_of(trained_model(name));
    for (OwnTensor& t : tensors) {
      if (t.shape.size() == 1) continue;
      t.dtype = "F32";
      t.bytes = from_q8_0(as_q8_0(t.bytes));
    }
    fs::create_directory(dir / name);
    write_model(dir / name, config_of(name), tensors);
    const Captured want = run_forward(Checkpoint(dir / name), tokens, 16);
    CHECK((run_forward(Checkpoint(dir / (name + ".gguf")), tokens, 16) == want));
  }
}

TEST_CASE("gpt-oss's experts in MXFP4 are their numbers", "[gguf]") {
  TempDir dir;
  const fs::path path = convertible("gpt_oss", dir);
  /// gate and up, whose rows of 32 are one block: a scale of 2^(e - 127), the first halves of 16 bytes, the
  /// second ones.
  const auto encode = [](bool blocks) {
    return [blocks](const std::string& name, Stored& t) {
      if (!name.ends_with("gate_exps.weight") && !name.ends_with("up_exps.weight")) return;
      constexpr float kNumbers[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
      std::mt19937 random(uint32_t(name.size() + uint8_t(name[4])));
      std::string out;
      for (uint64_t row = 0; row < t.shape[0] * t.shape[1]; ++row) {
        const int exponent = 122 + int(random() % 4);
        unsigned digits[32];
        for (unsigned& digit : digits) digit = unsigned(random() % 16);
        if (blocks) {
          out += char(exponent);
          for (int i = 0; i < 16; ++i) out += char(digits[i] | digits[i + 16] << 4);
        } else {
          for (const unsigned digit : digits) out += raw(std::ldexp(kNumbers[digit], exponent - 127));
        }
      }
      t.bytes = out;
      t.dtype = blocks ? "MXFP4" : "F32";
    };
  };
  const std::vector<int32_t> tokens = some_tokens(24, 64);
  gguf_of(path, encode(true)).write(dir / "blocks.gguf");
  gguf_of(path, encode(false)).write(dir / "numbers.gguf");
  const Captured got = run_forward(Checkpoint(dir / "blocks.gguf"), tokens, 0),
                 want = run_forward(Checkpoint(dir / "numbers.gguf"), tokens, 0);
  CHECK((got == want));
}

TEST_CASE("weights that a GGUF file has otherwise than a folder are not folded into one", "[gguf]") {
  TempDir dir;
  for (const std::string name : {"gemma2", "gpt_oss"}) {
    gguf_of(convertible(name, dir)).write(dir / "m.gguf");
    const Checkpoint model(dir / "m.gguf");
    CHECK_THAT(expect_error(Exit::input, [&] { Fold(model, BitMap{}); }),
               ContainsSubstring("m.gguf: model_type " + name + " does not fold: a GGUF file has"));
  }
}

TEST_CASE("biases of q and k lie in pairs as their rows do", "[gguf]") {
  TempDir dir;
  std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-llama"));
  std::mt19937 random(3);
  for (int l = 0; l < 4; ++l) {
    for (const std::string part : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      const std::string name = "model.layers." + std::to_string(l) + ".self_attn." + part;
      const int64_t rows = find(tensors, name + ".weight").shape[0];
      std::string bytes;
      for (int64_t i = 0; i < rows; ++i) bytes += raw(to_bf16(float(random() % 1000) / 5000 - 0.1f));
      tensors.push_back({name + ".bias", "BF16", {rows}, bytes});
    }
  }
  Json config = config_of("tiny-llama");
  config["attention_bias"] = true;
  write_model(dir.path(), config, tensors);
  fs::copy(trained_model("tiny-llama") / "tokenizer.json", dir / "tokenizer.json");
  gguf_of(dir.path()).write(dir / "m.gguf");
  const std::vector<int32_t> tokens = some_tokens(20);
  CHECK(
      (run_forward(Checkpoint(dir / "m.gguf"), tokens, 0) == run_forward(Checkpoint(dir.path()), tokens, 0)));
}

TEST_CASE("a split GGUF file is opened by its first part", "[gguf]") {
  TempDir dir;
  const GgufBuilder whole = gguf_of(trained_model("tiny-llama"));
  const auto name = [&](int i) { return fmt::format("m-{:05}-of-00003.gguf", i + 1); };
  std::vector<GgufBuilder> parts(3, whole);
  for (int i = 0; i < 3; ++i) {
    if (i > 0) parts[size_t(i)] = GgufBuilder();
    parts[size_t(i)].set("split.no", 2, raw(uint16_t(i))).set("split.count", 2, raw(uint16_t(3)));
    parts[size_t(i)].entries().clear();
  }
  std::vector<GgufBuilder::Entry> entries = GgufBuilder(whole).entries();
  for (size_t i = 0; i < entries.size(); ++i) parts[i % 3].entries().push_back(entries[i]);
  for (int i = 0; i < 3; ++i) parts[size_t(i)].write(dir / name(i));
  const std::vector<int32_t> tokens = some_tokens(20);
  const Checkpoint model(dir / name(0));
  CHECK(model.n_shards() == 3);
  CHECK((run_forward(model, tokens, 0) == run_forward(Checkpoint(trained_model("tiny-llama")), tokens, 0)));

  const auto error = [&](const fs::path& path) {
    return expect_error(Exit::input, [&] { Checkpoint{path}; });
  };
  CHECK_THAT(error(dir / name(1)), ContainsSubstring("part 2 of 3 of a split file: the first"));
  parts[2].set("split.no", 2, raw(uint16_t(1))).write(dir / name(2));
  CHECK_THAT(error(dir / name(0)), ContainsSubstring("says that it is part 2 of 3: part 3 of 3"));
  parts[2].set("split.no", 2, raw(uint16_t(2))).entries()[0].name = "token_embd.weight";
  parts[2].write(dir / name(2));
  CHECK_THAT(error(dir / name(0)), ContainsSubstring("in an earlier part too"));
  fs::remove(dir / name(2));
  CHECK_THAT(error(dir / name(0)), ContainsSubstring(name(2) + ": no such file: part 3 of 3"));
  fs::rename(dir / name(0), dir / "other.gguf");
  CHECK_THAT(error(dir / "other.gguf"), ContainsSubstring("its name does not end in -00001-of-00003.gguf"));
}

TEST_CASE("a GGUF file that is not a model this computes is refused by key or tensor", "[gguf]") {
  TempDir dir;
  const GgufBuilder good = gguf_of(trained_model("tiny-llama3"));
  struct Case {
    std::function<void(GgufBuilder&)> spoil;
    const char* says;
  };
  const std::string q = "blk.1.attn_q.weight";
  const Case cases[] = {
      {[](GgufBuilder& b) { b.text("general.architecture", "mamba"); },
       "general.architecture: \"mamba\" is not supported: llama, qwen2, qwen3, qwen3moe, qwen2moe"},
      {[](GgufBuilder& b) { b.erase("general.architecture"); }, "general.architecture: \"\""},
      {[](GgufBuilder& b) { b.text("general.type", "adapter"); }, "\"adapter\" is not a model"},
      {[](GgufBuilder& b) { b.erase("llama.block_count"); }, "llama.block_count: missing"},
      {[](GgufBuilder& b) { b.integer("llama.block_count", 0); },
       "llama.block_count: 0 is out of range: 1 to"},
      {[](GgufBuilder& b) { b.integer("llama.block_count", 5); }, "\"blk.4.attn_norm.weight\" is missing"},
      {[](GgufBuilder& b) { b.integer("llama.attention.head_count_kv", 3); }, "num_key_value_heads: 3"},
      {[](GgufBuilder& b) {
         b.array<int32_t>("llama.attention.head_count_kv", 5, {1, 1, 2, 1});
       },
       "layers that differ"},
      {[](GgufBuilder& b) { b.integer("llama.attention.key_length", 126); },
       "value_length: 128 is not supported: 126"},
      {[](GgufBuilder& b) { b.integer("llama.attention.value_length", 64); }, "value_length: 64"},
      {[](GgufBuilder& b) { b.integer("llama.expert_count", 8); }, "llama.expert_used_count: missing"},
      {[](GgufBuilder& b) { b.number("llama.attention.scale", 0.1f); }, "llama.attention.scale: is not"},
      {[](GgufBuilder& b) { b.flag("llama.attention.causal", false); }, "attention.causal"},
      {[](GgufBuilder& b) { b.number("llama.attention.layer_norm_rms_epsilon", 0); }, "rms_epsilon: 0"},
      {[](GgufBuilder& b) { b.number("llama.rope.freq_base", -1); }, "freq_base: -1"},
      {[](GgufBuilder& b) { b.text("llama.rope.scaling.type", "longrope"); }, "rope_freqs.weight: beside"},
      {[](GgufBuilder& b) { b.entry("rope_freqs.weight").bytes.replace(160, 4, raw(3.3f)); },
       "rope_freqs.weight: number 40"},
      {[](GgufBuilder& b) {
         b.entry("rope_freqs.weight").type = 8, b.entry("rope_freqs.weight").bytes.resize(68);
       },
       "rope_freqs.weight: expected 64 numbers of F32"},
      {[&](GgufBuilder& b) { b.entry(q).name = "blk.1.attn_x.weight"; },
       "\"blk.1.attn_x.weight\": models of llama have none"},
      {[](GgufBuilder& b) { b.tensor("blk.1.attn_q.bias", {512}, 0, std::string(2048, '\0')); },
       "\"blk.1.attn_q.bias\": has no place in a llama of this config"},
      {[&](GgufBuilder& b) { b.entry(q).name = "blk.9.attn_q.weight"; },
       "\"blk.1.attn_q.weight\" is missing"},
      {[&](GgufBuilder& b) {
         b.entry(q).shape = {128, 512};
       },
       "\"blk.1.attn_q.weight\": shape (128, 512), the config says (512, 128)"},
      {[&](GgufBuilder& b) {
         b.entry(q).shape = {500, 128}, b.entry(q).bytes.resize(500 * 256);
       },
       "\"blk.1.attn_q.weight\": shape (500, 128)"},
      {[&](GgufBuilder& b) { b.entry(q).type = 25; }, "dtype I16 is not supported: F32, F16, BF16, Q8_0"},
      {[](GgufBuilder& b) {
         b.entry("output_norm.weight").type = 8, b.entry("output_norm.weight").bytes.resize(136);
       },
       "a vector of Q8_0"},
      {[](GgufBuilder& b) { b.integer("llama.vocab_size", 2049); },
       "\"token_embd.weight\": shape (2048, 128)"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.says);
    GgufBuilder b = good;
    c.spoil(b);
    b.write(dir / "m.gguf");
    const std::string what = expect_error(Exit::input, [&] { check_weights(Checkpoint(dir / "m.gguf")); });
    CHECK_THAT(what, ContainsSubstring("m.gguf: "));
    CHECK_THAT(what, ContainsSubstring(c.says));
  }
}

TEST_CASE("RoPE scaling of a GGUF file is that of the config it came from", "[gguf]") {
  TempDir dir;
  const auto rope = [&](const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder b = gguf_of(trained_model("tiny-llama"));
    change(b);
    b.write(dir / "m.gguf");
    return Checkpoint(dir / "m.gguf").config().rope;
  };
  const RopeConfig linear = rope([](GgufBuilder& b) {
    b.text("llama.rope.scaling.type", "linear").number("llama.rope.scaling.factor", 4);
  });
  CHECK(linear.type == RopeType::linear);
  CHECK(linear.factor == 4);
  CHECK(rope([](GgufBuilder& b) { b.number("llama.rope.scale_linear", 2); }).factor == 2);
  CHECK(rope([](GgufBuilder& b) { b.erase("llama.rope.freq_base"); }).theta == 10000);
  const RopeConfig yarn = rope([](GgufBuilder& b) {
    b.text("llama.rope.scaling.type", "yarn").number("llama.rope.scaling.factor", 8);
    b.integer("llama.rope.scaling.original_context_length", 512)
        .number("llama.rope.scaling.yarn_beta_fast", 16);
  });
  CHECK(yarn.type == RopeType::yarn);
  CHECK(yarn.original_max_position == 512);
  CHECK(yarn.beta_fast == 16);
}
