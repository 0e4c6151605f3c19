// Trellis codes and centres as a user meets them.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

std::vector<std::string> perplexity(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"perplexity",
                                   "-m",
                                   model("tiny-llama"),
                                   "-f",
                                   text("evaluation"),
                                   "--tokens",
                                   "512",
                                   "--chunk",
                                   "128",
                                   "--calibration",
                                   text("calibration"),
                                   "--calibration-tokens",
                                   "1024",
                                   "-q"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Json caches(const std::vector<std::string>& more) {
  return Json::parse(good(perplexity(more)).out).at("models").at(0).at("caches");
}

}  // namespace

TEST_CASE("perplexity --code: the same bytes, less KL, named everywhere") {
  TempFolder dir;
  const Json found = caches({"--k-method", "tq-mse,tq-mse-cb", "--v-method", "tq-mse", "--pairs", "K2V2",
                             "--code", "scalar,trellis", "--json", "-"});
  REQUIRE(found.size() == 4);
  for (size_t i = 0; i < 4; i += 2) {
    CHECK(found[i].at("code") == "scalar");
    CHECK(found[i + 1].at("code") == "trellis");
    CHECK(found[i].at("bytes_per_token") == found[i + 1].at("bytes_per_token"));
    CHECK(found[i + 1].at("kl_mean") < 0.75 * found[i].at("kl_mean").get<double>());
  }
  const Outcome table = good(perplexity({"--k-method", "tq-mse", "--pairs", "K3", "--code", "trellis",
                                         "--sink", "4", "--csv", dir / "rows.csv"}));
  CHECK_THAT(table.out, ContainsSubstring("K3, trellis, sink 4"));
  CHECK_THAT(get_file(dir / "rows.csv"), ContainsSubstring(",trellis,4,"));
}

TEST_CASE("--code: what has no trellis is refused by name, or left scalar beside others") {
  const Outcome refused = blockgtq(perplexity({"--k-method", "kivi", "--pairs", "K3", "--code", "trellis"}));
  CHECK(refused.code == 2);
  CHECK(error_lines(refused) == 1);
  CHECK_THAT(refused.err, ContainsSubstring("kivi"));
  CHECK_THAT(refused.err, ContainsSubstring("no trellis codes"));
  const Json found =
      caches({"--k-method", "kivi,tq-mse", "--pairs", "K3", "--code", "scalar,trellis", "--json", "-"});
  REQUIRE(found.size() == 3);
  CHECK(found[0].at("k_method") == "kivi");
  CHECK(found[0].at("code") == "scalar");
  const Outcome unknown =
      blockgtq(perplexity({"--k-method", "tq-mse", "--pairs", "K3", "--code", "huffman"}));
  CHECK(unknown.code == 2);
  CHECK_THAT(unknown.err, ContainsSubstring("'huffman' is none of scalar, trellis"));
}

TEST_CASE("tq-mse-centres: half a byte for the centre, and less KL than one mean leaves") {
  const Json found = caches({"--k-method", "tq-mse-cb,tq-mse-centres", "--pairs", "K2", "--json", "-"});
  // tiny-llama: 4 layers, 2 heads; 4 bits of a centre, padded to a byte
  CHECK(found[1].at("bytes_per_token").get<double>() - found[0].at("bytes_per_token").get<double>() ==
        4 * 2 * 1);
  CHECK(found[1].at("kl_mean") < found[0].at("kl_mean"));
}

TEST_CASE("statistics of parts give the centres of the whole") {
  TempFolder dir;
  const auto energy = [&](const std::string& part, const std::string& out) {
    std::vector<std::string> args = {
        "energy", "-m", model("tiny-qwen2"), "-f", text("calibration"), "--tokens",
        "700",    "-o", dir / out,           "-q"};
    if (!part.empty()) args.insert(args.end(), {"--part", part});
    good(args);
  };
  energy("", "whole.h5");
  energy("1/2", "a.h5");
  energy("2/2", "b.h5");
  good({"merge", dir / "b.h5", dir / "a.h5", "-o", dir / "merged.h5"});
  const auto map = [&](const std::string& stats) {
    good({"allocate", dir / stats, "--bits", "3", "-o", dir / "map.h5", "--force"});
    return get_file(dir / "map.h5");
  };
  const bool same = map("whole.h5") == map("merged.h5");
  CHECK(same);
  good({"calibrate", "-m", model("tiny-qwen2"), "-f", text("calibration"), "--tokens", "700", "--bits", "3",
        "-o", dir / "direct.h5", "-q"});
  const bool direct = get_file(dir / "direct.h5") == map("whole.h5");
  CHECK(direct);
}

}  // namespace blockgtq
