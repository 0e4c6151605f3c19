// Every family's tiny checkpoint against what transformers computed (tests/golden/make_families.py): logits
// at a length within and one beyond the sliding windows, q, k and v before RoPE.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "captured.h"
#include "catch.h"
#include "model/model_shape.h"
#include "model/weights.h"
#include "worse.h"

namespace {

using namespace blockgtq;
using namespace blockgtq::test;

constexpr size_t kLong = 24, kShort = 6, kEvery = 3;  // as in make_families.py
constexpr double kLogitTolerance = 1e-3, kProjectionTolerance = 1e-4;

fs::path folder() {
  return fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/families";
}

using Golden = std::map<std::string, std::vector<float>>;

Golden read_golden(const fs::path& path) {
  Golden out;
  const MappedFile file(path);
  for (const Tensor& t : read_safetensors(file)) {
    std::vector<float>& values = out[t.name];
    values.resize(size_t(t.elements()));
    t.read(0, t.elements(), values.data());
  }
  return out;
}

/// |got - want| / |want|
double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(double(got[i]) - double(want[i]), 2);
    norm += std::pow(double(want[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// Every kEvery-th token's row.
std::vector<float> thinned(const std::vector<float>& x, size_t n_tokens) {
  std::vector<float> out;
  const size_t row = x.size() / n_tokens;
  for (size_t t = 0; t < n_tokens; t += kEvery)
    out.insert(out.end(), x.begin() + long(t * row), x.begin() + long((t + 1) * row));
  return out;
}

void compare(const std::string& name, const Checkpoint& model) {
  const Golden golden = read_golden(folder() / name / "golden.safetensors");
  const std::vector<int32_t> tokens = some_tokens(kLong, 64);
  const Captured whole = run_forward(model, tokens, 0),
                 start = run_forward(model, std::span(tokens).first(kShort), 0);
  const double logits = worse(relative_error(whole.logits, golden.at("logits")),
                              relative_error(start.logits, golden.at("logits_short")));
  double projections = 0;
  const std::vector<int> layers = model.config().kv_layers();
  REQUIRE(whole.q.size() == layers.size());
  for (size_t i = 0; i < layers.size(); ++i)
    for (const auto& [letter, arrays] : {std::pair{"q", &whole.q}, {"k", &whole.k}, {"v", &whole.v}}) {
      if (arrays->empty()) continue;  // latent attention has no values per head
      projections = worse(projections, relative_error(thinned((*arrays)[i], kLong),
                                                      golden.at(fmt::format("{}.{}", letter, layers[i]))));
    }
  INFO(fmt::format("{}: logits {:.1e}, q, k and v {:.1e}", name, logits, projections));
  CHECK(logits <= kLogitTolerance);
  CHECK(projections <= kProjectionTolerance);
}

}  // namespace

TEST_CASE("every family computes what transformers does", "[families]") {
  int n = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder())) {
    const std::string name = entry.path().filename().string();
    INFO(name);
    try {
      compare(name, Checkpoint(entry.path()));
    } catch (const Error& e) {
      FAIL_CHECK(e.what());
    }
    ++n;
  }
  CHECK(n >= 30);
}

TEST_CASE("experts stored transposed, as published folders of Qwen3-VL have them", "[families]") {
  const fs::path source = folder() / "qwen3_vl_moe";
  std::vector<OwnTensor> tensors = tensors_of(source);
  int changed = 0;
  for (OwnTensor& t : tensors)
    if (t.shape.size() == 3) {
      transpose(t);
      ++changed;
    }
  CHECK(changed == 4);
  const TempDir dir;
  write_model(dir.path(), read_json(source / "config.json", kMaxConfigBytes), tensors);
  compare("qwen3_vl_moe", Checkpoint(dir.path()));
}

TEST_CASE("a decoder saved without its model. prefix", "[families]") {
  const fs::path source = folder() / "smollm3";
  std::vector<OwnTensor> tensors = tensors_of(source);
  for (OwnTensor& t : tensors)
    if (t.name.rfind("model.", 0) == 0) t.name = t.name.substr(6);
  const TempDir dir;
  write_model(dir.path(), read_json(source / "config.json", kMaxConfigBytes), tensors);
  const Checkpoint model(dir.path());
  CHECK(attention_module(model.config(), 1) == "layers.1.self_attn");
  compare("smollm3", model);
}

TEST_CASE("what of attention differs from layer to layer is in the shape that files carry", "[families]") {
  const auto shape = [](const char* name) {
    return attention_shape(Checkpoint(folder() / name).config(), 16);
  };
  const AttentionShape gemma = shape("gemma3_text");
  REQUIRE(gemma.ropes.size() == 2);
  CHECK(gemma.rope_of_layer == std::vector<int>{1, 0});
  CHECK(gemma.windows == std::vector<int>{8, 0});
  CHECK(gemma.rope(0).inv_freq[1] == Approx(std::pow(100.0, -2.0 / 12)));
  CHECK(gemma.rope(1).inv_freq[1] == Approx(std::pow(10000.0, -2.0 / 12) / 2));
  CHECK(gemma.rope(1).inv_freq_raw[1] == Approx(std::pow(10000.0, -2.0 / 12)));
  CHECK(gemma.scale == Approx(1 / std::sqrt(20.0)));
  const AttentionShape smol = shape("smollm3");
  CHECK(smol.rope_of_layer == std::vector<int>{0, 1});
  CHECK(smol.rope(1).inv_freq == std::vector<double>(4, 0.0));
  CHECK(smol.windows.empty());
  CHECK(smol.scale == 0);
  const AttentionShape next = shape("qwen3_next");
  CHECK(next.n_layers == 1);
  CHECK(next.modules == std::vector<std::string>{"model.layers.1.self_attn"});
  CHECK_FALSE(next.special());
  CHECK(shape("gpt_oss").sinks);
  CHECK(shape("gemma2").softcap == 4);
}

TEST_CASE("what is out of the ordinary is said in one line", "[families]") {
  const auto said = [](const char* name) { return Checkpoint(folder() / name).config().peculiarities(); };
  CHECK(said("gpt_oss") == "sliding windows of 8 tokens on 1 of 2 layers, learned sinks");
  CHECK(said("smollm3") == "no RoPE on 1 of 2 layers");
  CHECK(said("qwen3_next") ==
        "gated attention output, gated delta nets in place of attention on 1 of 2 layers");
  CHECK(said("seed_oss").empty());
}
