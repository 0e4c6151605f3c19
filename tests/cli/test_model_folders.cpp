// Model folders that are not quite what they say: what is said of them, and what is refused.
#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// A copy of a small trained model, with a changed config.
struct Folder {
  explicit Folder(const std::string& name, const Json& changes = Json::object()) {
    fs::copy(model(name), path);
    Json config = Json::parse(get_file(path + "/config.json"));
    config.update(changes);
    put("config.json", config.dump());
  }
  void put(const std::string& file, const std::string& text) const { put_file(path + "/" + file, text); }
  /// A tensor of zeros more.
  void add_tensor(const std::string& name, const std::vector<int64_t>& shape) const {
    const std::string old = get_file(path + "/model.safetensors");
    uint64_t header = 0;
    for (int i = 7; i >= 0; --i) header = header << 8 | uint8_t(old[size_t(i)]);
    Json json = Json::parse(old.substr(8, header));
    const uint64_t begin = old.size() - 8 - header;
    uint64_t bytes = 4;
    for (const int64_t n : shape) bytes *= uint64_t(n);
    json[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, begin + bytes}}};
    const std::string text = json.dump();
    std::string length(8, '\0');
    for (int i = 0; i < 8; ++i) length[size_t(i)] = char(text.size() >> (8 * i) & 0xff);
    put("model.safetensors", length + text + old.substr(8 + header) + std::string(bytes, '\0'));
  }

  TempFolder dir;
  std::string path = dir / "model";
};

const std::string kPointer =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 2758896\n";

std::vector<std::string> perplexity(const Folder& folder, int chunk = 64) {
  return {"perplexity", "-m",      folder.path,           "-f",         text("evaluation"), "--tokens",
          "128",        "--chunk", std::to_string(chunk), "--k-method", "tq-mse",           "--pairs",
          "K4",         "-q"};
}

std::vector<std::string> warnings(const Outcome& outcome) {
  std::vector<std::string> out;
  std::istringstream lines(outcome.err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("warning: ")) out.push_back(line.substr(9));
  return out;
}

}  // namespace

TEST_CASE("what of a folder the model leaves aside is one warning line each") {
  Folder folder("tiny-llama", {{"partial_rotary_factor", 0.5}});
  folder.add_tensor("model.layers.30.input_layernorm.weight", {128});
  folder.add_tensor("lm_head.weight", {2048, 128});
  // Calibration and evaluation open the model twice and say it once.
  std::vector<std::string> args = perplexity(folder);
  args.insert(args.end(), {"--calibration", text("calibration"), "--calibration-tokens", "128"});
  const std::vector<std::string> said = warnings(good(args));
  REQUIRE(said.size() == 3);
  CHECK(said[0] ==
        folder.path +
            "/config.json: rope_parameters.partial_rotary_factor: 0.5 is ignored, as transformers does "
            "for this model: all 128 coordinates of a head turn");
  CHECK_THAT(said[1], ContainsSubstring("lm_head.weight differs from model.embed_tokens.weight: it is used"));
  CHECK_THAT(said[2], ContainsSubstring("1 tensor has no place in a llama of this config and is ignored"));
  const Json sheet = Json::parse(good({"inspect", folder.path, "--json", "-"}).out);
  CHECK(sheet.at("remarks").get<std::vector<std::string>>() == said);
}

TEST_CASE("windows beyond the model's positions: one warning line, whatever command runs the model") {
  const Folder folder("tiny-llama", {{"max_position_embeddings", 100}});
  const std::vector<std::string> line = {
      folder.path + ": windows of more than 100 tokens reach beyond the model's max_position_embeddings"};
  CHECK(warnings(good(perplexity(folder, 100))).empty());
  CHECK(warnings(good(perplexity(folder, 101))) == line);
  const std::vector<std::string> tail = {
      "-m",  folder.path, "-f", text("evaluation"),    "--tokens", "128", "--chunk",
      "128", "-q",        "-o", folder.dir / "out.h5", "--force"};
  for (std::vector<std::string> args :
       {std::vector<std::string>{"calibrate", "--bits", "3"},
        {"calibrate", "--bits", "3", "--choose", "--choose-tokens", "120", "--choose-chunk", "120"},
        {"energy"},
        {"dump"}}) {
    args.insert(args.end(), tail.begin(), tail.end());
    CHECK(warnings(good(args)) == line);
  }
  std::vector<std::string> calibrating = perplexity(folder, 101);  // calibration has windows of its own
  calibrating.insert(calibrating.end(), {"--calibration", text("calibration")});
  CHECK(warnings(good(calibrating)) == line);
  const Outcome niah =
      good({"niah", "-m", folder.path, "-f", text("evaluation"), "--k-method", "tq-mse", "--pairs", "K4",
            "--context", "96,128,160", "--questions", "2", "--chunk", "64", "--json", "-", "-q"});
  CHECK(warnings(niah) == line);
  CHECK(Json::parse(niah.out).at("results").size() == 6);  // it runs all the same
  Json panel = {{"schema", "blockgtq.panel-spec/1"}, {"name", "one model"}, {"chunk", 128}};
  panel["calibration"] = {{"text", text("calibration")}, {"tokens", 128}};
  panel["evaluation"] = {{"text", text("evaluation")}, {"tokens", 120}};  // a shorter window
  panel["bits"] = {2};
  panel["methods"] = {"tq-mse"};
  panel["models"] = Json::array({{{"name", "one"}, {"path", folder.path}}});
  put_file(folder.dir / "panel.json", panel.dump());
  CHECK(warnings(good({"panel", folder.dir / "panel.json", "-o", folder.dir / "panel", "-q"})) == line);
}

TEST_CASE("a Git LFS pointer in place of a file is named as that, with the command that mends it") {
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json"}) {
    CAPTURE(file);
    const Folder folder("tiny-llama");
    folder.put(file, kPointer);
    const Outcome outcome = blockgtq(perplexity(folder));
    CHECK(outcome.code == 3);
    CHECK(outcome.err == "error: " + folder.path + "/" + file +
                             ": a Git LFS pointer: the file itself was not fetched\nhint: git -C " +
                             folder.path + " lfs pull\n");
  }
}

TEST_CASE("inspect says what is refused") {
  const auto field = [](const Outcome& outcome, const char* key) {
    return Json::parse(outcome.out).at(key).get<std::string>();
  };
  {
    const Folder folder("tiny-llama");
    CHECK(field(good({"inspect", folder.path, "--json", "-"}), "verdict") == "supported");
    folder.put("tokenizer.json", R"({"model": {"type": "Unigram", "vocab": []}})");
    const Outcome outcome = good({"inspect", folder.path, "--json", "-"});
    CHECK(field(outcome, "verdict") == "supported with --ids in place of a text");
    CHECK_THAT(field(outcome, "tokenizer"),
               ContainsSubstring("refused: " + folder.path + "/tokenizer.json: "));
    fs::remove(folder.path + "/tokenizer.json");
    CHECK(field(good({"inspect", folder.path, "--json", "-"}), "tokenizer") == "none");
  }
  const std::function<void(const Folder&)> spoil[] = {
      [](const Folder& f) {  // the weights only as torch pickles them
        fs::remove(f.path + "/model.safetensors");
        f.put("pytorch_model.bin", "PK");
      },
      [](const Folder& f) { f.put("model.safetensors", kPointer); },
      [](const Folder& f) { f.add_tensor("layers.0.mlp.up_proj.weight", {2}); },
  };
  for (const auto& change : spoil) {
    const Folder folder("tiny-llama");
    change(folder);
    const std::string json = folder.dir / "sheet.json";
    for (const std::string& to : {std::string("-"), json}) {
      const Outcome outcome = blockgtq({"inspect", folder.path, "--json", to});
      CHECK(outcome.code == 3);
      CHECK(error_lines(outcome) == 1);
      if (to != "-") continue;
      CHECK(field(outcome, "verdict") == "not supported");
      CHECK_THAT(outcome.err, ContainsSubstring("error: " + field(outcome, "refused") + "\n"));
    }
    CHECK_FALSE(fs::exists(json));
  }
}

#ifndef __SANITIZE_ADDRESS__  // which takes several times the memory
TEST_CASE("a header of 100 MB takes at most 500 MB, whatever is in it") {
  constexpr size_t kHeader = 100'000'000;
  const Folder folder("tiny-llama");
  std::string object = "{";
  for (int i = 0; object.size() < kHeader / 2; ++i)
    object += "\"a rather long name " + std::to_string(i) + "\":[],";
  const std::string starts[] = {"{\"a\":[", "{\"a\":{\"", object};
  const char* fills[] = {"[],", "\\u00e4", "   "};
  for (int i = 0; i < 3; ++i) {
    std::string header = starts[i];
    header.reserve(kHeader);
    while (header.size() + 6 < kHeader) header += fills[i];
    std::string length(8, '\0');
    for (int k = 0; k < 8; ++k) length[size_t(k)] = char(header.size() >> (8 * k) & 0xff);
    folder.put("model.safetensors", length + header);
    const Outcome outcome = blockgtq({"inspect", folder.path});
    CAPTURE(i);
    CHECK(outcome.code == 3);
    CHECK(error_lines(outcome) == 1);
    CHECK(outcome.kilobytes < 500'000);
  }
}
#endif

}  // namespace blockgtq
