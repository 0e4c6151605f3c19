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
#include "model/weights.h"

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

void check_same_config(const Config& a, const Config& b) {
  CHECK(a.n_layers == b.n_layers);
  CHECK(a.n_kv_heads == b.n_kv_heads);
  CHECK(a.rms_eps == b.rms_eps);
  CHECK(a.tied == b.tied);
  CHECK(a.vocab == b.vocab);
  CHECK(a.max_position == b.max_position);
  const RopeFrequencies x = rope_frequencies(a.rope, a.max_position, 64),
                        y = rope_frequencies(b.rope, b.max_position, 64);
  CHECK(x.inv_freq == y.inv_freq);
  CHECK(x.attention_factor == y.attention_factor);
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
       "general.architecture: \"mamba\" is not supported: llama, qwen2, qwen3, qwen3moe"},
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
      {[](GgufBuilder& b) { b.integer("llama.expert_count", 8); }, "llama.expert_count: 8 is not supported"},
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
