// export-bitmap for engines: that every format is written, read back and says what it loses.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

/// A map of tiny-qwen2 (half pairing over the whole head of 128) at 2 and 3 bits.
std::string make_map(const TempFolder& dir, const std::string& name = "tiny-qwen2") {
  const std::string map = dir / "map.h5";
  good({"calibrate", "-m", model(name), "-f", text("calibration"), "--tokens", "128", "--chunk", "64",
        "--bits", "2,3", "-o", map});
  return map;
}

}  // namespace

TEST_CASE("export-bitmap: engines, each with what it loses, verified") {
  TempFolder dir;
  const std::string map = make_map(dir);
  for (const char* format : {"llama-ctk", "vllm-skip-layers", "modelopt", "turboquant-kv", "ranges",
                             "vbr-degrade-order", "oscar", "reference-npz"}) {
    INFO(format);
    const std::string file = dir / format;
    const Outcome out =
        good({"export-bitmap", map, "--bits", "3", "--format", format, "-o", file, "--verify"});
    CHECK(out.out.empty());
    CHECK_THAT(out.err, ContainsSubstring(std::string(format) + ": "));
    CHECK_THAT(out.err, ContainsSubstring("predicted error"));
    CHECK_THAT(out.err, ContainsSubstring("verified"));
    CHECK(!get_file(file).empty());
    CHECK(good({"export-bitmap", map, "--bits", "3", "--format", format, "-o", "-", "-q"}).out ==
          get_file(file));
  }
  for (const char* format : {"json", "csv", "npy", "safetensors"})
    good({"export-bitmap", map, "--bits", "3", "-o", dir / ("map." + std::string(format)), "--verify"});
}

TEST_CASE("export-bitmap --as-map: what an engine can express, as a map") {
  TempFolder dir;
  const std::string map = make_map(dir), projected = dir / "projected.h5";
  good({"export-bitmap", map, "--bits", "2", "--format", "turboquant-kv", "-o", dir / "t.json", "--as-map",
        projected});
  const std::string csv = good({"export-bitmap", projected, "--format", "csv", "-o", "-"}).out;
  CHECK_THAT(csv, ContainsSubstring(",2,"));
  const auto shown = nlohmann::json::parse(good({"inspect", projected, "--json", "-"}).out);
  CHECK(shown.at("budgets") == nlohmann::json({2.25}));
  CHECK(shown.at("allocator") == "what turboquant-kv can express of 2 bits");
  good({"eval-logits", "-m", model("tiny-qwen2"), "-f", text("evaluation"), "--tokens", "64", "--chunk", "64",
        "--map", projected, "--methods", "block-gtq"});
  // nothing appears where one of the two cannot
  const Outcome none = blockgtq({"export-bitmap", map, "--bits", "2", "--format", "vllm-skip-layers", "-o",
                                 dir / "v.yaml", "--as-map", dir / "v.h5"});
  CHECK(none.code == 3);
  CHECK_THAT(none.err, ContainsSubstring("16 bits in layer"));
  CHECK(!std::ifstream(dir / "v.yaml"));
  CHECK(!std::ifstream(dir / "v.h5"));
}

TEST_CASE("export-bitmap: what an engine cannot have is said in one line") {
  TempFolder dir;
  const std::string map = make_map(dir, "tiny-glm"), out = dir / "out";  // pairs (2i, 2i + 1)
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"--format", "reference-npz"}, 3},
      {{"--format", "none"}, 2},
      {{"--format", "ranges", "--engine-type", "t4"}, 2},
      {{"--format", "llama-ctk", "--engine-type", "q3_K"}, 2},
      {{"--format", "json", "--engine-type", "q4_0"}, 2},
      {{"--format", "json", "--as-map", dir / "m.h5"}, 2},
      {{"--format", "png", "--verify"}, 2},
      {{"--format", "llama-ctk", "--layers", "-1"}, 2},
      {{"--fold", model("tiny-glm"), "--verify"}, 2}};
  for (const auto& [args, code] : cases) {
    std::vector<std::string> all = {"export-bitmap", map, "-o", out};
    if (args[0] == "--format") all.insert(all.end(), {"--bits", "3"});
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = blockgtq(all);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
    CHECK(!std::ifstream(out));
  }
}

}  // namespace blockgtq
