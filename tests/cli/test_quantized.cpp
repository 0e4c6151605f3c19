// Folders with quantized weights as a user meets them.
#include "cli/command.h"
#include "hf/quantized_of.h"

namespace blockgtq {
namespace {

using Json = nlohmann::ordered_json;
using test::Fp8Kind;
using test::QuantizedTensors;
using test::Stored;

const Fp8Kind& kBlocks = test::kFp8Kinds[0];
const std::string kTensor = "model.layers.1.self_attn.k_proj.weight", kScales = kTensor + "_scale_inv";

std::vector<std::string> on(const std::string& model, std::vector<std::string> args) {
  for (const std::string& a :
       {std::string("-m"), model, std::string("-f"), text("calibration"), std::string("--tokens"),
        std::string("512"), std::string("--progress"), std::string("none")})
    args.push_back(a);
  return args;
}

/// What a map says, without what names the model.
Json content(const std::string& map) {
  Json json = Json::parse(good({"export-bitmap", map, "--format", "json", "-o", "-"}).out);
  json.erase("signature");
  json.erase("provenance");
  return json;
}

}  // namespace

TEST_CASE("a quantized folder gives the map and the errors that its numbers give") {
  TempFolder dir;
  const std::string source = model("tiny-llama3"), a = dir / "a", b = dir / "b";
  const QuantizedTensors tensors = test::quantized_tensors(source, kBlocks);
  test::write_folder(a, source, tensors.stored, kBlocks.config);
  test::write_folder(b, source, tensors.plain, nullptr);
  const Outcome calibrated = good(on(a, {"calibrate", "--bits", "3", "-o", dir / "a.h5"}));
  CHECK_THAT(calibrated.err,
             ContainsSubstring("warning: " + a + "/config.json: quantization_config: activations "));
  CHECK(warning_lines(calibrated) == 1);
  good(on(b, {"calibrate", "--bits", "3", "-o", dir / "b.h5"}));
  CHECK(content(dir / "a.h5") == content(dir / "b.h5"));
  const auto layers = [&](const std::string& model, const std::string& map) {
    return Json::parse(good(on(model, {"eval-logits", "--map", map, "--json", "-"})).out)["layers"];
  };
  CHECK(layers(a, dir / "a.h5") == layers(b, dir / "b.h5"));

  SECTION("its verdict") {
    const Outcome seen = good({"inspect", a});
    for (const char* says : {"supported", "F8_E4M3 28, BF16 10", "activations are left as they are"})
      CHECK_THAT(seen.out, ContainsSubstring(says));
    CHECK_THAT(seen.out, !ContainsSubstring("no place"));
  }
  SECTION("its weights folded are a folder that is not quantized") {
    good({"export-bitmap", dir / "a.h5", "--fold", a, "-o", dir / "folded"});
    good({"export-bitmap", dir / "b.h5", "--fold", b, "-o", dir / "want"});
    CHECK_FALSE(Json::parse(get_file(dir / "folded/config.json")).contains("quantization_config"));
    const auto got = test::stored_tensors(dir / "folded"), want = test::stored_tensors(dir / "want");
    REQUIRE(got.size() == want.size());
    for (const auto& [name, t] : want) {
      CAPTURE(name);
      CHECK(got.at(name).bytes == t.bytes);
    }
    CHECK_THAT(good({"inspect", dir / "folded"}).out, ContainsSubstring("supported"));
  }
}

TEST_CASE("spoiled quantized folders are refused with one line, and nothing is left") {
  using Tensors = std::map<std::string, Stored>;
  struct Case {
    const char* what;
    std::function<void(Tensors&)> spoil;
    std::string says;
    int code = 3;
    std::string config = kBlocks.config;
  };
  const std::string nan("\0\0\xc0\x7f", 4);
  const std::vector<Case> cases = {
      {"no scales", [](Tensors& t) { t.erase(kScales); }, "\"" + kScales + "\" is missing"},
      {"scales of another shape",
       [](Tensors& t) {
         t[kScales].shape = {1, 2};
       },
       "shape (1, 2), scales of (256, 128)"},
      {"scales of another dtype", [](Tensors& t) { t[kScales].dtype = "I32"; },
       "scales of dtype I32 are not supported: F32, F16, BF16"},
      {"a scale that is NaN", [&](Tensors& t) { t[kScales].bytes.replace(4, 4, nan); }, "is not finite: nan"},
      {"a number that is NaN", [](Tensors& t) { t[kTensor].bytes[5 * 128 + 3] = '\x7f'; },
       kTensor + ": row 5: not finite", 6},
      {"blocks of another size", [](Tensors&) {}, "scales of ", 3,
       R"({"quant_method": "fp8", "weight_block_size": [64, 64]})"},
      {"FP8 that nothing says a word of", [](Tensors&) {}, "dtype F8_E4M3 is not supported: F32, F16, BF16",
       3, "null"},
      {"GPTQ that nothing says a word of",
       [](Tensors& t) {
         auto node = t.extract(kTensor);
         node.key() = "model.layers.1.self_attn.k_proj.qweight";
         t.insert(std::move(node));
         t.erase(kScales);
       },
       "packed in integers are not supported: \"model.layers.1.self_attn.k_proj.qweight\"", 3, "null"},
      {"AWQ", [](Tensors&) {}, "quant_method: \"awq\" is not supported: fp8", 3,
       R"({"quant_method": "awq", "bits": 4})"},
      {"4 bits of compressed-tensors", [](Tensors&) {},
       "\"pack-quantized\" is not supported: float-quantized", 3,
       R"({"quant_method": "compressed-tensors", "format": "pack-quantized"})"},
  };
  TempFolder dir;
  const std::string source = model("tiny-llama"), folder = dir / "model", out = dir / "map.h5";
  const QuantizedTensors tensors = test::quantized_tensors(source, kBlocks);
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Tensors spoiled = tensors.stored;
    c.spoil(spoiled);
    test::write_folder(folder, source, spoiled, c.config.c_str());
    const Outcome outcome = blockgtq(on(folder, {"calibrate", "--device", "cpu", "-q", "-o", out}));
    CAPTURE(outcome.err);
    CHECK(outcome.code == c.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("error: " + folder));
    CHECK_THAT(outcome.err, ContainsSubstring(c.says));
    if (c.says.find("not supported: ") != c.says.npos && c.says.find("scales") == c.says.npos)
      CHECK_THAT(outcome.err, ContainsSubstring("hint: take the unquantized model, or a GGUF file of it"));
    CHECK(dir.entries() == 1);  // the folder alone
  }
}

}  // namespace blockgtq
