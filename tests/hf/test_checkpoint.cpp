#include <nlohmann/json.hpp>

#include "base/error.h"
#include "catch.h"
#include "config_samples.h"
#include "hf/checkpoint.h"
#include "safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// A folder with a config, and what the test puts beside it.
struct Folder {
  TempDir dir;
  Folder() { write_bytes(dir / "config.json", kQwen3); }

  void shard(const std::string& name, const std::vector<std::string>& tensors) {
    SafetensorsBuilder b;
    for (const std::string& t : tensors) b.add_bf16(t, {2, 3});
    b.write(dir / name);
  }
  void index(const std::string& weight_map) {
    write_bytes(dir / "model.safetensors.index.json",
                "{\"metadata\":{\"total_size\":1},\"weight_map\":" + weight_map + "}");
  }
  Error error() const {
    try {
      Checkpoint c(dir.path());
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK(std::string(e.what()).find('\n') == std::string::npos);
      return e;
    }
    return Error(Exit::ok, "");
  }
};

}  // namespace

TEST_CASE("checkpoint: one file", "[checkpoint]") {
  Folder f;
  SafetensorsBuilder()
      .add_bf16("w", {4, 2})
      .add("ids", "I64", {1}, std::string(8, 'x'))
      .add("f8", "F8_E4M3", {2, 2}, "abcd")
      .write(f.dir / "model.safetensors");
  const Checkpoint c(f.dir.path());
  CHECK(c.folder() == f.dir.path());
  CHECK(c.config().model_type == "qwen3");
  CHECK(c.n_shards() == 1);
  CHECK(c.weight_bytes() == 16 + 8 + 4);
  REQUIRE(c.find("w"));
  CHECK(c.find("x") == nullptr);
  const Tensor& w = c.get("w", {4, 2});
  float out[8];
  w.read(0, 8, out);
  for (float v : out) CHECK(v == 1.0f);
  c.prefetch(w);
  c.release(w.rows(1, 2));
  w.read(0, 8, out);  // released pages come back
  for (float v : out) CHECK(v == 1.0f);

  const std::string file = (f.dir / "model.safetensors").string();
  CHECK_THROWS_WITH(c.get("x", {4, 2}), f.dir.path().string() + ": tensor \"x\" is missing: shape (4, 2)");
  CHECK_THROWS_WITH(c.get("w", {2, 4}), file + ": tensor \"w\": shape (4, 2), the config says (2, 4)");
  CHECK_THROWS_WITH(c.get("w", {8}), file + ": tensor \"w\": shape (4, 2), the config says (8)");
  CHECK_THROWS_WITH(c.get("ids", {1}), file + ": tensor \"ids\": dtype I64 is not supported: F32, F16, BF16");
  CHECK_THROWS_WITH(c.get("f8", {2, 2}),
                    file + ": tensor \"f8\": dtype F8_E4M3 is not supported: F32, F16, BF16");

  // Moved, the tensors still point into the mapping.
  Checkpoint first(f.dir.path());
  const Checkpoint moved = std::move(first);
  moved.get("w", {4, 2}).read(7, 1, out);
  CHECK(out[0] == 1.0f);
}

TEST_CASE("checkpoint: shards", "[checkpoint]") {
  Folder f;
  f.shard("model-00001-of-00002.safetensors", {"a", "b"});
  f.shard("model-00002-of-00002.safetensors", {"c", "unlisted"});  // transformers reads it all the same
  f.index(R"({"c":"model-00002-of-00002.safetensors","a":"model-00001-of-00002.safetensors",
              "b":"model-00001-of-00002.safetensors"})");
  {
    const Checkpoint c(f.dir.path());
    CHECK(c.n_shards() == 2);
    CHECK(c.weight_bytes() == 4 * 12);
    CHECK(c.find("a"));
    CHECK(c.find("c"));
    CHECK(c.find("unlisted"));
    c.release(c.get("c", {2, 3}));
    CHECK_THROWS_WITH(c.get("c", {3, 2}),
                      ContainsSubstring("model-00002-of-00002.safetensors: tensor \"c\""));
  }
  f.shard("model.safetensors", {"d"});  // goes before the index, as in transformers
  const Checkpoint c(f.dir.path());
  CHECK(c.n_shards() == 1);
  CHECK(c.find("d"));
  CHECK_FALSE(c.find("a"));
}

TEST_CASE("checkpoint: an index that lies", "[checkpoint]") {
  struct Case {
    std::string weight_map, message;
  };
  const std::vector<Case> cases = {
      {R"({"a":"../s1.safetensors"})", "\"../s1.safetensors\" is not a file name inside the folder"},
      {R"({"a":"/etc/passwd"})", "is not a file name"},
      {R"({"a":".."})", "is not a file name"},
      {R"({"a":"."})", "is not a file name"},
      {R"({"a":""})", "is not a file name"},
      {R"({"a":"sub/s1.safetensors"})", "is not a file name"},
      {R"({"a":"..\\s1.safetensors"})", "is not a file name"},
      {R"({"a":"s1.safetensors\u0000x"})", "is not a file name"},
      {R"({"a":3})", "expected a file name, found 3"},
      {R"([])", "weight_map: expected"},
      {R"({})", "weight_map: expected"},
      {R"(null)", "weight_map: missing"},
      {R"({"a":"s3.safetensors"})", "s3.safetensors: no such file"},
      {R"({"z":"s1.safetensors"})", "tensor \"z\" is not in \"s1.safetensors\""},
      {R"({"c":"s1.safetensors","a":"s1.safetensors"})", "tensor \"c\" is not in \"s1.safetensors\""},
      {R"({"a":"s1.safetensors","a":"s2.safetensors"})", "\"a\""},
      {R"({"both":"s1.safetensors","c":"s2.safetensors"})",
       "tensor \"both\" lies in two shards: s1.safetensors and s2.safetensors"},
      {R"({"a":"s1.safetensors","c":"s2.safetensors"})", "tensor \"both\" lies in two shards"},  // unlisted
      {R"({"a":"config.json"})", "config.json"},
  };
  Folder f;
  f.shard("s1.safetensors", {"a", "both"});
  for (const Case& c : cases) {
    INFO(c.weight_map);
    f.shard("s2.safetensors", c.message.find("both") == c.message.npos
                                  ? std::vector<std::string>{"c"}
                                  : std::vector<std::string>{"c", "both"});
    f.index(c.weight_map);
    CHECK_THAT(f.error().what(), ContainsSubstring(c.message));
  }
  write_bytes(f.dir / "model.safetensors.index.json", "[]");
  CHECK_THAT(f.error().what(), ContainsSubstring("expected a JSON object"));
  write_bytes(f.dir / "model.safetensors.index.json", "{");
  CHECK_THAT(f.error().what(), ContainsSubstring("index.json"));
}

TEST_CASE("checkpoint: the limit on shards", "[checkpoint]") {
  Folder f;
  for (const int n : {kMaxShards, kMaxShards + 1}) {
    nlohmann::json map;
    for (int i = 0; i < n; ++i) {
      const std::string name = "s" + std::to_string(i);
      if (!fs::exists(f.dir / name))
        SafetensorsBuilder().add("t" + std::to_string(i), "U8", {1}, "x").write(f.dir / name);
      map["t" + std::to_string(i)] = name;
    }
    f.index(map.dump());
    if (n == kMaxShards) {
      CHECK(Checkpoint(f.dir.path()).n_shards() == size_t(kMaxShards));
    } else {
      CHECK_THAT(f.error().what(), ContainsSubstring("at most 1024"));
    }
  }
}

TEST_CASE("checkpoint: folders that are no model", "[checkpoint]") {
  Folder f;
  CHECK_THAT(f.error().what(), ContainsSubstring("no model.safetensors and no model.safetensors.index.json"));
  CHECK(f.error().hint == "");
  write_bytes(f.dir / "pytorch_model.bin", "PK");
  CHECK_THAT(f.error().what(), ContainsSubstring("pickled weights are not read"));
  CHECK_THAT(f.error().hint, ContainsSubstring("save_pretrained"));
  write_bytes(f.dir / "model.safetensors", "");
  CHECK_THAT(f.error().what(), ContainsSubstring("model.safetensors: not a safetensors file: 0 bytes"));
  // The config speaks before the weights are looked at.
  write_bytes(f.dir / "config.json", R"({"model_type":"gpt2"})");
  CHECK_THAT(f.error().what(), ContainsSubstring("model_type: \"gpt2\" is not supported"));
  write_bytes(f.dir / "config.json", std::string(kMaxConfigBytes + 1, ' '));
  CHECK_THAT(f.error().what(), ContainsSubstring("config.json"));
  fs::remove(f.dir / "config.json");
  CHECK_THAT(f.error().what(), ContainsSubstring("no config.json"));
  CHECK_THROWS_WITH(Checkpoint(f.dir / "nowhere"), ContainsSubstring("nowhere: not a folder"));
  CHECK_THROWS_WITH(Checkpoint(f.dir / "model.safetensors"), ContainsSubstring("not a folder"));
}

TEST_CASE("checkpoint: symbolic links, as the Hugging Face cache has them", "[checkpoint]") {
  TempDir cache;
  fs::create_directories(cache.path() / "blobs");
  fs::create_directories(cache.path() / "snapshots" / "abc");
  write_bytes(cache.path() / "blobs" / "11", kQwen3);
  SafetensorsBuilder().add_bf16("w", {2}).write(cache.path() / "blobs" / "22");
  const fs::path snapshot = cache.path() / "snapshots" / "abc";
  fs::create_symlink("../../blobs/11", snapshot / "config.json");
  fs::create_symlink("../../blobs/22", snapshot / "model.safetensors");
  const Checkpoint c(snapshot);
  CHECK(c.find("w"));
  CHECK(c.fingerprint().size() == 64);
  fs::remove(cache.path() / "blobs" / "22");  // a link that leads nowhere
  CHECK_THROWS_WITH(
      Checkpoint(snapshot),
      ContainsSubstring("model.safetensors: a link to a file that is not there: \"../../blobs/22\""));
}

TEST_CASE("checkpoint: the models of data/", "[checkpoint]") {
  const fs::path root = fs::path(BLOCKGTQ_SOURCE_DIR) / "data/models";
  const Checkpoint qwen(root / "tiny-qwen2");
  const Config& c = qwen.config();
  CHECK(qwen.n_shards() == 1);
  CHECK(qwen.get("model.embed_tokens.weight", {c.vocab, c.hidden}).dtype == DType::bf16);
  CHECK(qwen.get("model.layers.5.self_attn.k_proj.bias", {c.n_kv_heads * c.head_dim}).elements() == 256);
  CHECK_THROWS_WITH(qwen.get("model.layers.6.self_attn.k_proj.bias", {256}), ContainsSubstring("is missing"));
  const Checkpoint deepseek(root / "tiny-deepseek2");
  CHECK(deepseek.find("model.layers.1.mlp.experts.7.down_proj.weight"));
  CHECK(qwen.fingerprint() != deepseek.fingerprint());
}
