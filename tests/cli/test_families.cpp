// What differs from family to family (windows, layers without RoPE, frequencies of their own, sinks, latent
// attention, layers without keys), through the whole data flow. tests/model/test_families.cpp has the numbers
// of every family.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace

TEST_CASE("families whose layers differ go from the config to the KL") {
  for (const std::string name :
       {"cohere2", "deepseek_v3", "gemma3", "gpt_oss", "phi3-longrope", "qwen3_next", "smollm3"}) {
    CAPTURE(name);
    TempFolder dir;
    const std::string acts = dir / "a.h5", stats = dir / "s.h5", map = dir / "m.h5", direct = dir / "m2.h5";
    std::string ids;
    for (int i = 0; i < 192; ++i) ids += std::to_string((i * i * 31 + i * 17 + 3) % 64) + "\n";
    put_file(dir / "ids.txt", ids);
    const std::vector<std::string> on_model = {
        "-m",       BLOCKGTQ_SOURCE_DIR "/tests/golden/families/" + name,
        "--ids",    dir / "ids.txt",
        "--chunk",  "64",
        "--device", "cpu",
        "-q"};

    good(with({"dump", "--tokens", "192", "-o", acts}, on_model));
    good({"energy", acts, "-o", stats, "-q"});
    good({"allocate", stats, "--bits", "3,8", "-o", map});
    good(with({"calibrate", "--tokens", "192", "--bits", "3,8", "-o", direct}, on_model));
    CHECK(same_bytes(map, direct));

    const std::vector<std::string> scores = {"--map", map, "--metrics", "all", "--json", "-"};
    const Json dumped =
        Json::parse(good(with({"eval-logits", "--activations", acts, "--chunk", "64", "-q"}, scores)).out);
    const Json streamed =
        Json::parse(good(with(with({"eval-logits", "--tokens", "192"}, on_model), scores)).out);
    CHECK(dumped["layers"] == streamed["layers"]);

    const Json found = Json::parse(good(with({"perplexity", "--tokens", "192", "--map", map, "--k-method",
                                              "block-gtq", "--bits-k", "3,8", "--json", "-"},
                                             on_model))
                                       .out)["models"][0];
    CHECK(found["noise_floor"]["kl_max"] == 0);
    REQUIRE(found["caches"].size() == 2);
    const double rough = found["caches"][0]["kl_mean"], fine = found["caches"][1]["kl_mean"];
    CHECK(fine > 0);
    CHECK(fine < rough);
  }
}

}  // namespace blockgtq
