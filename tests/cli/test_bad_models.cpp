// Spoiled model folders: one error line, the documented exit code, no output. Each case takes a good folder
// and breaks one thing.
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::ordered_json;

struct Folder {
  std::string config, weights;  // config.json, model.safetensors
  Json header() const { return Json::parse(weights.substr(8, header_bytes())); }
  uint64_t header_bytes() const {
    uint64_t n = 0;
    for (int i = 7; i >= 0; --i) n = n << 8 | uint8_t(weights[i]);
    return n;
  }
  /// Replaces the header and keeps the data.
  void set_header(const std::string& text) {
    std::string length(8, '\0');
    for (int i = 0; i < 8; ++i) length[i] = char(text.size() >> (8 * i));
    weights = length + text + weights.substr(8 + header_bytes());
  }
  /// One member of config.json.
  void set(const char* key, const Json& value) {
    Json json = Json::parse(config);
    json[key] = value;
    config = json.dump();
  }
};

struct Case {
  const char* what;
  std::function<void(Folder&)> spoil;
  int code;
  const char* says;
};

const std::string kTensor = "model.layers.1.self_attn.k_proj.weight";

const std::vector<Case> kCases = {
    {"truncated weights", [](Folder& f) { f.weights.resize(f.weights.size() - 1); }, 3, "model.safetensors"},
    {"header longer than the file", [](Folder& f) { f.weights[6] = 1; }, 3, "model.safetensors"},
    {"header not JSON", [](Folder& f) { f.weights[8] = 'x'; }, 3, "header"},
    {"overlapping tensors",
     [](Folder& f) {
       Json h = f.header();
       h[kTensor]["data_offsets"] = h["model.norm.weight"]["data_offsets"];
       f.set_header(h.dump());
     },
     3, "model.safetensors"},
    {"a tensor is missing",
     [](Folder& f) {
       std::string text = f.header().dump();
       text.replace(text.find(kTensor), kTensor.size(), "model.layers.1.self_attn.x_proj.weight");
       f.set_header(text);
     },
     3, "k_proj.weight"},
    {"a tensor is of another shape",
     [](Folder& f) {
       Json h = f.header();
       h[kTensor]["shape"] = {128, 256};
       f.set_header(h.dump());
     },
     3, "k_proj.weight"},
    {"a key given twice", [](Folder& f) { f.config.insert(1, "\"model_type\": \"llama\", "); }, 3,
     "model_type"},
    {"KV heads do not divide heads", [](Folder& f) { f.set("num_attention_heads", 3); }, 3,
     "num_key_value_heads"},
    {"odd head dimension", [](Folder& f) { f.set("head_dim", 127); }, 3, "head_dim"},
    {"unknown RoPE",
     [](Folder& f) {
       f.set("rope_parameters", {{"rope_type", "spiral"}, {"rope_theta", 1e4}});
     },
     3, "spiral"},
    {"no theta",
     [](Folder& f) {
       f.set("rope_parameters", {{"rope_type", "default"}});
     },
     3, "rope_theta"},
    {"quantized",
     [](Folder& f) {
       f.set("quantization_config", {{"quant_method", "gptq"}});
     },
     3, "gptq"},
    {"unknown model", [](Folder& f) { f.set("model_type", "mamba"); }, 3, "mamba"},
    {"a NaN among the weights",
     [](Folder& f) {
       const uint64_t at = f.header()[kTensor]["data_offsets"][0].get<uint64_t>() + 8 + f.header_bytes();
       f.weights[at] = '\xc0', f.weights[at + 1] = '\x7f';  // bf16 NaN
     },
     6, "k_proj.weight"},
};

}  // namespace

TEST_CASE("spoiled model folders are refused with one line") {
  TempFolder dir;
  const std::string folder = dir / "model", out = dir / "map.h5";
  std::filesystem::create_directory(folder);
  std::filesystem::copy(model("tiny-llama") + "/tokenizer.json", folder + "/tokenizer.json");
  const Folder good_one{get_file(model("tiny-llama") + "/config.json"),
                        get_file(model("tiny-llama") + "/model.safetensors")};
  for (const Case& c : kCases) {
    CAPTURE(c.what);
    Folder spoiled = good_one;
    c.spoil(spoiled);
    put_file(folder + "/config.json", spoiled.config);
    put_file(folder + "/model.safetensors", spoiled.weights);
    const Outcome outcome = blockgtq({"calibrate", "-m", folder, "-f", text("calibration"), "--tokens", "256",
                                      "--device", "cpu", "-q", "-o", out});
    CAPTURE(outcome.err);
    CHECK(outcome.code == c.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(c.says));
    CHECK(dir.entries() == 1);  // the folder alone
  }
}

TEST_CASE("a shard path that leaves the folder is refused") {
  TempFolder dir;
  const std::string folder = dir / "model";
  std::filesystem::create_directory(folder);
  std::filesystem::copy(model("tiny-llama") + "/config.json", folder + "/config.json");
  for (const std::string path : {"../secret.safetensors", "/etc/passwd", "sub/x.safetensors", ""}) {
    CAPTURE(path);
    put_file(folder + "/model.safetensors.index.json",
             Json({{"weight_map", {{"model.norm.weight", path}}}}).dump());
    const Outcome outcome = blockgtq({"inspect", folder});
    CHECK(outcome.code == 3);
    CHECK(error_lines(outcome) == 1);
  }
}

}  // namespace blockgtq
