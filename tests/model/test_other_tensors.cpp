// Tensors that a config has no place for. other_tensors.json says what transformers does with each
// (make_other_tensors.py made it).
#include "model/other_tensors.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/expect_error.h"
#include "base/float16.h"
#include "captured.h"
#include "catch.h"
#include "model/weights.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

Json known() {
  return read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/model/other_tensors.json", size_t(1) << 20);
}

template <class Value>
OwnTensor f32(const std::string& name, const std::vector<int64_t>& shape, const Value& value) {
  OwnTensor out{name, "F32", shape, ""};
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  for (int64_t i = 0; i < n; ++i) {
    const float x = value(i);
    out.bytes.append(reinterpret_cast<const char*>(&x), sizeof x);
  }
  return out;
}

/// A head of the embedding's columns, those at even places times `even`, the others times `odd`.
OwnTensor head_of(std::vector<OwnTensor>& tensors, float even, float odd) {
  const OwnTensor& embedding = find(tensors, "model.embed_tokens.weight");
  return f32("lm_head.weight", embedding.shape, [&](int64_t i) {
    uint16_t bits;
    std::memcpy(&bits, embedding.bytes.data() + 2 * i, sizeof bits);
    return from_bf16(bits) * (i % 2 ? odd : even);
  });
}

/// A small trained model with more tensors.
struct Changed {
  Changed(const std::string& name, const std::vector<OwnTensor>& more) {
    std::vector<OwnTensor> tensors = tensors_of(trained_model(name));
    tensors.insert(tensors.end(), more.begin(), more.end());
    write_model(dir.path(), config_of(name), tensors);
  }
  std::vector<std::string> remarks() const { return check_weights(Checkpoint(dir.path())); }
  TempDir dir;
};

/// Mean negative log-likelihood of tokens in windows of `window`.
double nll(const Checkpoint& model, const std::vector<int32_t>& tokens, int64_t window) {
  const Captured seen = run_forward(model, tokens, window);
  const int64_t vocab = model.config().vocab;
  double sum = 0;
  int64_t n = 0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    if ((int64_t(t) + 1) % window == 0) continue;
    const float* logits = seen.logits.data() + int64_t(t) * vocab;
    double total = 0;
    for (int64_t v = 0; v < vocab; ++v) total += std::exp(double(logits[v]));
    sum += std::log(total) - double(logits[tokens[t + 1]]);
    ++n;
  }
  return sum / double(n);
}

}  // namespace

TEST_CASE("a tensor without a place is named where transformers ignores it and refused where it does not") {
  const Json all = known();
  CHECK(all["cases"].size() > 100);
  for (const Json& c : all["cases"]) {
    const std::string name = c["tensor"], verdict = c["transformers"];
    INFO(c.dump());
    const Changed changed(c["model"], {f32(name, c["shape"], [](int64_t) { return 0.5f; })});
    if (name.ends_with("rotary_emb.inv_freq")) {
      CHECK(verdict == "silent");
      CHECK(changed.remarks().empty());
    } else if (verdict == "ignored" || name == "lm_head.weight") {
      if (verdict == "fails") {  // of another shape
        CHECK_THAT(expect_error(Exit::input, [&] { changed.remarks(); }), ContainsSubstring(name));
        continue;
      }
      const std::vector<std::string> remarks = changed.remarks();
      REQUIRE(remarks.size() == 1);
      CHECK_THAT(remarks[0], ContainsSubstring(name));
      CHECK_THAT(remarks[0],
                 ContainsSubstring(verdict == "ignored" ? "1 tensor has no place" : "it is used"));
    } else {  // it counts, or which of two counts depends on the order of names
      CHECK_THAT(expect_error(Exit::input, [&] { changed.remarks(); }), ContainsSubstring(name));
    }
  }
}

TEST_CASE("many tensors without a place are one line, and the first are named") {
  std::vector<OwnTensor> more;
  for (const char* name : {"input_layernorm", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj"})
    more.push_back(f32(fmt::format("model.layers.30.{}.weight", name), {2}, [](int64_t) { return 1.0f; }));
  const Changed changed("tiny-llama", more);
  CHECK(changed.remarks() ==
        std::vector<std::string>{
            changed.dir.path().string() +
            ": 4 tensors have no place in a llama of this config and are ignored, as transformers does: "
            "\"model.layers.30.input_layernorm.weight\", \"model.layers.30.mlp.down_proj.weight\", "
            "\"model.layers.30.mlp.up_proj.weight\", ..."});
}

TEST_CASE("a tied config with a head of its own: the head is used and a line says so") {
  const Json all = known();
  REQUIRE(all["tied"].size() == 2);
  for (const Json& c : all["tied"]) {
    const std::string name = c["model"];
    INFO(name);
    std::vector<OwnTensor> tensors = tensors_of(trained_model(name));
    const std::vector<int32_t> tokens = some_tokens(512);
    // Both are float32 passes; the acceptance cases agree within 2e-5 nats.
    CHECK(std::abs(nll(Checkpoint(trained_model(name)), tokens, 256) - c["without"].get<double>()) < 5e-5);
    const Changed changed(name, {head_of(tensors, 1.5f, 0.75f)});
    const Checkpoint model(changed.dir.path());
    CHECK_FALSE(model.config().tied);
    CHECK(std::abs(nll(model, tokens, 256) - c["own_head"].get<double>()) < 5e-5);
    CHECK(changed.remarks() ==
          std::vector<std::string>{(changed.dir / "config.json").string() +
                                   ": tie_word_embeddings is true, but lm_head.weight differs from "
                                   "model.embed_tokens.weight: it is used, as transformers does"});
  }
}

TEST_CASE("a head equal to the embedding stays tied to it") {
  std::vector<OwnTensor> tensors = tensors_of(trained_model("tiny-llama"));
  OwnTensor copy = find(tensors, "model.embed_tokens.weight");
  copy.name = "lm_head.weight";
  for (const OwnTensor& head : {copy, head_of(tensors, 1, 1)}) {  // bf16, and the same values in float32
    const Changed changed("tiny-llama", {head});
    const Checkpoint model(changed.dir.path());
    CHECK(model.config().tied);
    CHECK(outer_weights(model).lm_head.weight.name == "model.embed_tokens.weight");
    CHECK(check_weights(model).empty());
  }
}

TEST_CASE("a model under other names is named as that") {
  const auto refused = [](const std::string& model, const auto& rename) {
    std::vector<OwnTensor> tensors = tensors_of(trained_model(model));
    for (OwnTensor& t : tensors) t.name = rename(t.name);
    const TempDir dir;
    write_model(dir.path(), config_of(model), tensors);
    try {
      check_weights(Checkpoint(dir.path()));
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      return std::string(e.what()).substr(dir.path().string().size());
    }
    return std::string("taken");
  };
  CHECK(refused("tiny-llama",
                [](const std::string& name) {
                  return name.starts_with("model.") ? "decoder." + name.substr(6) : name;
                }) ==
        ": tensors lie under other names: \"decoder.embed_tokens.weight\" is not supported: "
        "\"model.embed_tokens.weight\"");
  // Without the prefix, and as the text tower of a vision model, they are read.
  CHECK(refused("tiny-llama", [](const std::string& name) {
          return name.starts_with("model.") ? name.substr(6) : name;
        }) == "taken");
  CHECK(refused("tiny-qwen2", [](const std::string& name) { return "language_model." + name; }) == "taken");
  for (const char* model : {"tiny-qwen3-moe", "tiny-deepseek2"}) {
    CHECK_THAT(refused(model,
                       [](std::string name) {
                         for (const char* which : {"gate", "down"}) {
                           const std::string split = fmt::format("experts.0.{}_proj.weight", which);
                           if (const size_t at = name.find(split);
                               at != name.npos && name.find("shared") == name.npos)
                             name.replace(
                                 at, split.size(),
                                 std::string(which) == "gate" ? "experts.gate_up_proj" : "experts.down_proj");
                         }
                         return name;
                       }),
               ContainsSubstring("experts.gate_up_proj\": shape ("));
  }
}
