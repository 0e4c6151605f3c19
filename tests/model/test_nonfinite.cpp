#include <cmath>
#include <limits>

#include "base/expect_error.h"
#include "captured.h"
#include "catch.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr uint16_t kNan = 0x7fc0, kInfinity = 0xff80;  // in bf16

void set_element(OwnTensor& tensor, size_t index, uint16_t bits) {
  std::memcpy(tensor.bytes.data() + 2 * index, &bits, 2);
}

struct Spoiled {
  const char* model;
  const char* tensor;
  size_t index;
  uint16_t bits;
  int row;
};

}  // namespace

TEST_CASE("a weight that is not finite is named by file, tensor and row") {
  const Spoiled cases[] = {
      {"tiny-llama", "model.layers.1.self_attn.k_proj.weight", 3 * 128 + 5, kNan, 3},
      {"tiny-llama", "model.layers.0.self_attn.q_proj.weight", 0, kInfinity, 0},
      {"tiny-llama", "model.layers.2.self_attn.v_proj.weight", 255 * 128 + 127, kNan, 255},
      {"tiny-llama", "model.layers.0.input_layernorm.weight", 9, kNan, 9},
      {"tiny-qwen2", "model.layers.1.self_attn.k_proj.bias", 200, kInfinity, 200},
      {"tiny-qwen3", "model.layers.1.self_attn.k_norm.weight", 127, kNan, 127},
      {"tiny-llama", "model.layers.0.self_attn.o_proj.weight", 77 * 256, kNan, 77},
      {"tiny-llama", "model.layers.0.mlp.down_proj.weight", 100 * 384, kInfinity, 100},
      {"tiny-glm", "model.layers.2.mlp.gate_up_proj.weight", 500 * 128, kNan, 500},
      {"tiny-qwen3-moe", "model.layers.2.mlp.gate.weight", 4 * 128, kNan, 4},
      {"tiny-deepseek2", "model.layers.2.mlp.shared_experts.up_proj.weight", 5 * 128, kNan, 5},
      {"tiny-deepseek2", "model.layers.1.self_attn.kv_a_proj_with_mqa.weight", 100 * 128, kNan, 100},
      {"tiny-deepseek2", "model.layers.1.self_attn.kv_b_proj.weight", 11 * 64, kNan, 11},
      {"tiny-llama", "model.norm.weight", 64, kNan, 64},
  };
  const std::vector<int32_t> tokens = some_tokens(50);
  for (const Spoiled& c : cases) {
    INFO(c.tensor);
    std::vector<OwnTensor> tensors = tensors_of(trained_model(c.model));
    set_element(find(tensors, c.tensor), c.index, c.bits);
    const TempDir dir;
    write_model(dir.path(), config_of(c.model), tensors);
    const Checkpoint model(dir.path());
    CHECK(expect_error(Exit::nonfinite, [&] { run_forward(model, tokens, 0); }) ==
          (dir / "model.safetensors").string() + ": " + c.tensor + ": row " + std::to_string(c.row) +
              ": not finite");
  }
}

TEST_CASE("an expert that is not finite matters when a token meets it") {
  const std::string name = "model.layers.0.mlp.experts.0.up_proj.weight";
  std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-qwen3-moe"));
  set_element(find(tensors, name), 0, kNan);
  const TempDir dir;
  write_model(dir.path(), config_of("tiny-qwen3-moe"), tensors);
  const Checkpoint model(dir.path());
  // Over all tokens the expert is met.
  const std::vector<int32_t> many = some_tokens(500);
  CHECK_THAT(expect_error(Exit::nonfinite, [&] { run_forward(model, many, 0); }),
             ContainsSubstring(name + ": row 0"));
  // Two of eight experts see a single token: some tokens never meet this one.
  int unharmed = 0;
  for (int32_t token = 0; token < 40; ++token) {
    const std::vector<int32_t> one = {token};
    try {
      run_forward(model, one, 0);
      ++unharmed;
    } catch (const Error& e) {
      CHECK(e.code == Exit::nonfinite);
    }
  }
  CHECK(unharmed > 0);
}

TEST_CASE("an embedding row matters when its token is there") {
  const std::string name = "model.embed_tokens.weight";
  std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-llama"));
  set_element(find(tensors, name), 1234 * 128 + 1, kNan);
  set_element(find(tensors, name), 17 * 128 + 1, kNan);
  const TempDir dir;
  write_model(dir.path(), config_of("tiny-llama"), tensors);
  const Checkpoint model(dir.path());
  const std::vector<int32_t> with = {1, 2, 1234, 3}, without = {1, 2, 3};
  const std::string file = (dir / "model.safetensors").string();
  CHECK(expect_error(Exit::nonfinite, [&] { run_forward(model, with, 0, false); }) ==
        file + ": " + name + ": row 1234: not finite");
  CHECK_NOTHROW(run_forward(model, without, 0, false));
  // Tied: it is lm_head too.
  CHECK(expect_error(Exit::nonfinite, [&] { run_forward(model, without, 0, true); }) ==
        file + ": " + name + ": row 17: not finite");
}

TEST_CASE("activations that overflow are named by layer and token") {
  std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-llama"));
  OwnTensor& values = find(tensors, "model.layers.1.self_attn.v_proj.weight");
  for (size_t i = 0; i < values.bytes.size() / 2; ++i) set_element(values, i, 0x7f7f);  // the largest bf16
  const TempDir dir;
  write_model(dir.path(), config_of("tiny-llama"), tensors);
  const Checkpoint model(dir.path());
  const std::vector<int32_t> tokens = some_tokens(20);
  try {
    run_forward(model, tokens, 0);
    FAIL("no Error");
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    CHECK_THAT(e.what(), ContainsSubstring(dir.path().string() + ": model.layers.1.self_attn.v: token "));
    CHECK_FALSE(e.hint.empty());
  }
  // What a callback spoils is named too.
  const Checkpoint good(trained_model("tiny-llama"));
  const auto spoil = [](LayerActivations& a) {
    if (a.layer == 2) a.v[7 * 4 * 64] = std::numeric_limits<float>::quiet_NaN();
  };
  const std::string what = expect_error(Exit::nonfinite, [&] { run_forward(good, tokens, 0, true, spoil); });
  CHECK_THAT(what, ContainsSubstring("model.layers.2.self_attn.v: token 7: not finite"));
}

TEST_CASE("requests that cannot be met") {
  const Checkpoint model(trained_model("tiny-mistral"));
  const std::vector<int32_t> none, high = {1, 2048}, negative = {-1}, fine = {0, 2047};
  CHECK_THAT(expect_error(Exit::input, [&] { run_forward(model, none, 0); }), ContainsSubstring("no tokens"));
  CHECK_THAT(expect_error(Exit::input, [&] { run_forward(model, high, 0); }),
             ContainsSubstring("token 1: id 2048 is out of range: 0 to 2047"));
  CHECK_THAT(expect_error(Exit::input, [&] { run_forward(model, negative, 0); }), ContainsSubstring("id -1"));
  CHECK_NOTHROW(run_forward(model, fine, 0));

  // A window of 48 tokens: chunks of 48 see all of themselves, longer ones do not.
  Json config = config_of("tiny-mistral");
  config["sliding_window"] = 48;
  const TempDir dir;
  write_model(dir.path(), config, tensors_of(trained_model("tiny-mistral")));
  const Checkpoint windowed(dir.path());
  const std::vector<int32_t> tokens = some_tokens(100);
  CHECK(run_forward(windowed, tokens, 48) == run_forward(model, tokens, 48));
  CHECK_FALSE(run_forward(windowed, tokens, 49) == run_forward(model, tokens, 49));
}
