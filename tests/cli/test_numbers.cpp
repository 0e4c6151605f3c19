// Numbers at the edge of what their formats hold: named, never taken for a defect, never kept in silence.
#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/command.h"

namespace blockgtq {
namespace {

const std::string kSource = "tiny-qwen2-hd64";  // 4 layers, 2 KV heads, D = 64

/// A copy of a model with every value of one projection's weights, in one layer, multiplied or replaced.
std::string spoiled(const TempFolder& dir, const std::string& projection, int layer, auto change) {
  const std::string folder = dir / "model";
  std::filesystem::create_directory(folder);
  for (const char* name : {"/config.json", "/tokenizer.json"})
    std::filesystem::copy_file(model(kSource) + name, folder + name);
  std::string weights = get_file(model(kSource) + "/model.safetensors");
  uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | uint8_t(weights[size_t(i)]);
  const auto tensors = nlohmann::json::parse(weights.substr(8, header));
  const auto range =
      tensors.at("model.layers." + std::to_string(layer) + ".self_attn." + projection + ".weight")
          .at("data_offsets")
          .get<std::vector<uint64_t>>();
  for (uint64_t at = 8 + header + range[0]; at < 8 + header + range[1]; at += 2) {  // bfloat16
    const uint32_t bits = uint32_t(uint8_t(weights[at])) << 16 | uint32_t(uint8_t(weights[at + 1])) << 24;
    const auto changed = std::bit_cast<uint32_t>(change(std::bit_cast<float>(bits)));
    weights[at] = char(changed >> 16), weights[at + 1] = char(changed >> 24);
  }
  put_file(folder + "/model.safetensors", weights);
  return folder;
}

std::vector<std::string> on(const std::string& folder, std::vector<std::string> args) {
  args.insert(args.end(), {"-m", folder, "-f", text("evaluation"), "--tokens", "256", "--chunk", "64",
                           "--device", "cpu", "--progress", "none"});
  return args;
}

void check_nonfinite(const Outcome& outcome, const std::string& says) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == 6);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring(says));
}

}  // namespace

TEST_CASE("an infinite output projection is named by every command that reads it") {
  const TempFolder dir;
  bool first = true;  // the last layer: no forward pass that stops at its values ever uses it
  const std::string folder = spoiled(dir, "o_proj", 3, [&](float w) {
    return std::exchange(first, false) ? std::numeric_limits<float>::infinity() : w;
  });
  for (const std::string command : {"dump", "energy", "calibrate"}) {
    CAPTURE(command);
    check_nonfinite(blockgtq(on(folder, {command, "-o", dir / "out.h5"})),
                    "layers.3.self_attn.o_proj.weight: row 0");
  }
  CHECK(dir.entries() == 1);
}

TEST_CASE("keys whose logits overflow float32 are named by layer and head") {
  const TempFolder dir;
  const std::string folder = spoiled(dir, "k_proj", 3, [](float w) { return w * 3e37f; }),
                    map = dir / "map.h5";
  good(on(folder, {"calibrate", "-o", map}));
  const auto eval = [&](const std::string& methods) {
    return blockgtq(
        on(folder, {"eval-logits", "--map", map, "--methods", methods, "--json", dir / "out.json"}));
  };
  check_nonfinite(eval("tq-mse,block-gtq"), "layer 3: KV head 0: logit error of tq-mse at 3 bits: ");
  CHECK_FALSE(std::filesystem::exists(dir / "out.json"));
}

TEST_CASE("weights too small to calibrate leave no map that could not be read") {
  const TempFolder dir;
  const std::string folder = spoiled(dir, "o_proj", 2, [](float w) { return w * 1e-39f; });
  check_nonfinite(blockgtq(on(folder, {"calibrate", "-o", dir / "map.h5"})),
                  "layer 2: KV head 0: v_backward: ");
  CHECK(dir.entries() == 1);
}

TEST_CASE("norms beyond fp16 are counted in one warning") {
  const TempFolder dir;
  const std::string folder = spoiled(dir, "k_proj", 3, [](float w) { return w * 1e6f; }),
                    map = dir / "map.h5", acts = dir / "acts.h5";
  const auto warned = [](const Outcome& outcome, const std::string& says) {
    CAPTURE(outcome.err);
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.err,
               ContainsSubstring(says) && ContainsSubstring("are beyond 65504 and were cut to it"));
    CHECK(outcome.err.find("beyond") == outcome.err.rfind("beyond"));
  };
  good(on(folder, {"calibrate", "-o", map}));
  good(on(folder, {"dump", "-o", acts}));
  // 256 keys of 2 heads, one norm each.
  warned(blockgtq({"quantize", acts, "--map", map, "--method", "tq-mse", "--progress", "none", "-o",
                   dir / "p.h5"}),
         "warning: 512 fp16 norms or scales of tq-mse ");
  const Outcome eval = blockgtq(
      on(folder, {"eval-logits", "--map", map, "--methods", "tq-mse,rtn,block-gtq-cb1", "--json", "-"}));
  warned(eval, "fp16 norms or scales of tq-mse, rtn in layers 3 ");
  const auto rows = nlohmann::json::parse(eval.out).at("layers");
  CHECK(rows[3].at("results")[0].at("clipped") == 512);
  CHECK_FALSE(rows[2].at("results")[0].contains("clipped"));
  CHECK_FALSE(rows[3].at("results")[2].contains("clipped"));  // divided by its RMS
  warned(blockgtq(on(folder, {"perplexity", "--map", map, "--k-method", "tq-mse", "--v-method", "tq-mse",
                              "--pairs", "K3V3"})),
         "warning: 512 fp16 norms or scales of keys or values of the quantized caches ");
}

TEST_CASE("methods that allocate by themselves refuse a map of another allocator") {
  const TempFolder dir;
  const std::string map = dir / "map.h5", capped = dir / "capped.h5";
  good(on(model(kSource),
          {"calibrate", "--allocator", "exact", "--cost", "packed", "--bits", "3.5", "-o", map}));
  const Outcome outcome =
      blockgtq(on(model(kSource), {"eval-logits", "--map", map, "--methods", "block-gtq-product"}));
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.err, ContainsSubstring("block-gtq-product"));
  // At most 3 bits, 3 on average: 3 everywhere, so the bytes are those of one group.
  good(on(model(kSource), {"calibrate", "--max-bits", "3", "-o", capped}));
  const auto json =
      nlohmann::json::parse(good(on(model(kSource), {"eval-logits", "--map", capped, "--methods",
                                                     "block-gtq-product", "--json", "-"}))
                                .out);
  CHECK(json.at("summary")[0].at("effective_bits") == 3.25);
}

TEST_CASE("a stack of 128 KB is enough") {
  const TempFolder dir;
  const std::string map = dir / "map.h5", wide = model("tiny-llama");  // D = 128
  const auto limited = [](std::vector<std::string> args) {
    args.insert(args.begin(), {"/bin/sh", "-c", "ulimit -s 128 && exec \"$0\" \"$@\"", BLOCKGTQ_BINARY});
    const Outcome outcome = run(args);
    CAPTURE(args[4], outcome.err);
    CHECK(outcome.code == 0);
  };
  limited(on(wide, {"dump", "-o", dir / "acts.h5"}));
  limited({"energy", dir / "acts.h5", "--progress", "none", "-o", dir / "stats.h5"});
  limited({"allocate", dir / "stats.h5", "-o", map});
  limited(on(wide, {"eval-logits", "--map", map, "--methods", "tq-mse,block-gtq,block-gtq-cb1,klt",
                    "--metrics", "all"}));
  limited(
      on(wide, {"perplexity", "--map", map, "--k-method", "klt", "--v-method", "klt", "--pairs", "K3V3"}));
  limited({"export-bitmap", map, "--fold", wide, "-o", dir / "folded"});
}

TEST_CASE("bf16x3 on the CPU says so, and its numbers are those of fp32 but for the last digits") {
  const auto perplexity = [](const std::string& dtype) {
    return blockgtq(on(model(kSource), {"perplexity", "--json", "-", "--dtype", dtype}));
  };
  const Outcome split = perplexity("bf16x3");
  if (split.code == 5) {
    CHECK_THAT(split.err, ContainsSubstring("error: --dtype: bf16x3 wants a processor with AMX"));
    WARN("this processor has no AMX");
    return;
  }
  REQUIRE(split.code == 0);
  const auto fp32 = nlohmann::json::parse(perplexity("fp32").out).at("models").at(0),
             other = nlohmann::json::parse(split.out).at("models").at(0);
  CHECK(other.at("provenance").at("dtype") == "bf16x3");
  const double exact = fp32.at("exact").at("perplexity"), close = other.at("exact").at("perplexity");
  CHECK(close != exact);  // another order of sums
  CHECK(std::abs(close / exact - 1) < 1e-5);
}

}  // namespace blockgtq
