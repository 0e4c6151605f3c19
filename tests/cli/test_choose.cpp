// calibrate --choose: which method to take, written into the map, and taken from there.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

std::vector<std::string> calibrate(const std::string& name, const std::string& map,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> args = {"calibrate", "-m",  model(name), "-f",  text("calibration"),
                                   "--tokens",  "512", "--chunk",   "256", "-q",
                                   "-o",        map};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

std::vector<std::string> choosing(const std::string& name, const std::string& map,
                                  std::vector<std::string> more) {
  more.insert(more.end(), {"--choose", "--choose-tokens", "128", "--choose-chunk", "64"});
  return calibrate(name, map, more);
}

Outcome perplexity(const std::string& name, const std::vector<std::string>& more) {
  std::vector<std::string> args = {"perplexity",       "-m",       model(name), "-f",
                                   text("evaluation"), "--tokens", "64",        "-q"};
  args.insert(args.end(), more.begin(), more.end());
  return blockgtq(args);
}

}  // namespace

TEST_CASE("calibrate --choose: a choice per side and budget, shown, exported, and used") {
  TempFolder dir;
  const std::string map = dir / "m.h5";
  const Outcome made = good(choosing("tiny-llama3", map, {"--bits", "2,3"}));
  CHECK_THAT(made.out, ContainsSubstring("KL of tq-mse"));
  const Json choice = Json::parse(good({"inspect", map, "--json", "-"}).out).at("choice");
  REQUIRE(choice.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    const Json& c = choice[i];
    CAPTURE(c.dump());
    const bool keys = i % 2 == 0;
    CHECK(c.at("side") == (keys ? "keys" : "values"));
    CHECK(c.at("bits") == (i < 2 ? 2 : 3));
    CHECK(c.at("tokens") == 128);
    const Json& candidates = c.at("candidates");
    REQUIRE(candidates.size() == (keys ? 8 : 6));  // four methods or three, scalar and trellis
    CHECK(candidates[0].at("method") == "tq-mse");
    CHECK(candidates[0].at("code") == "scalar");
    CHECK(candidates[0].at("kl") == c.at("tq_mse_kl"));
    CHECK(candidates[1].at("method") == "tq-mse");
    CHECK(candidates[1].at("code") == "trellis");
    bool found = false;
    for (const Json& other : candidates) {
      CHECK(other.at("kl").get<double>() > 0);
      CHECK(other.at("kl_error").get<double>() > 0);
      if (other.at("method") != c.at("method") || other.at("code") != c.at("code")) continue;
      found = true;
      CHECK(other.at("kl") == c.at("kl"));
      CHECK(other.at("bytes_per_token") == c.at("bytes_per_token"));
    }
    CHECK(found);
    // Trellis codes have two thirds of the error and less than half of the KL at the same bytes: plain
    // scalar ones do not stand against them.
    CHECK((c.at("method") != "tq-mse" || c.at("code") != "scalar"));
    CHECK(c.at("kl") < c.at("tq_mse_kl"));
  }
  CHECK_THAT(good({"inspect", map}).out, ContainsSubstring("KL of tq-mse"));
  CHECK(Json::parse(good({"export-bitmap", map, "--bits", "2", "--format", "json", "-o", "-"}).out)
            .at("choice") == choice);

  // What the map says is what is measured, under its own name; beside it no other cache.
  const Outcome used = perplexity("tiny-llama3", {"--map", map, "--k-method", "chosen", "--v-method",
                                                  "tq-mse,chosen", "--pairs", "K2V3,K3", "--json", "-"});
  REQUIRE(used.code == 0);
  const Json caches = Json::parse(used.out).at("models").at(0).at("caches");
  REQUIRE(caches.size() == 3);
  CHECK(caches[0].at("k_method") == choice[0].at("method"));
  CHECK(caches[0].at("v_method") == "tq-mse");
  CHECK(caches[0].at("k_bytes_per_token") == choice[0].at("bytes_per_token"));
  CHECK(caches[1].at("v_method") == choice[3].at("method"));
  const auto k_code = choice[0].at("code").get<std::string>(),
             v_code = choice[3].at("code").get<std::string>();
  CHECK(caches[0].at("code") == (k_code == "scalar" ? "scalar" : k_code + " / scalar"));
  CHECK(caches[1].at("code") == (k_code == v_code ? k_code : k_code + " / " + v_code));
  CHECK(caches[2].at("k_method") == choice[2].at("method"));
  CHECK(caches[2].at("code") == choice[2].at("code"));

  const Outcome same =
      perplexity("tiny-llama3", {"--map", map, "--k-method", choice[2].at("method"), "--code",
                                 choice[2].at("code"), "--pairs", "K3", "--json", "-"});
  CHECK(Json::parse(same.out).at("models").at(0).at("caches").at(0) == caches[2]);
  const Outcome niah =
      good({"niah", "-m", model("tiny-llama3"), "-f", text("evaluation"), "--map", map, "--k-method",
            "chosen", "--pairs", "K2", "--context", "96", "--questions", "2", "--json", "-", "-q"});
  CHECK(Json::parse(niah.out).at("results").at(1).at("k_method") == choice[0].at("method"));

  const Outcome other = perplexity("tiny-llama3", {"--map", map, "--k-method", "chosen", "--pairs", "K4"});
  CHECK(other.code == 3);
  CHECK_THAT(other.err, ContainsSubstring("the map holds no choice of a method for keys at 4 bits\nhint: "));
}

TEST_CASE("calibrate --choose: the same bytes for any number of threads; the map is otherwise the same") {
  TempFolder dir;
  good(choosing("tiny-llama", dir / "a.h5", {"--bits", "2"}));
  good(choosing("tiny-llama", dir / "b.h5", {"--bits", "2", "-t", "1"}));
  CHECK(same_bytes(dir / "a.h5", dir / "b.h5"));
  good(calibrate("tiny-llama", dir / "none.h5", {"--bits", "2"}));
  auto exported = [&](const char* name) {
    return Json::parse(good({"export-bitmap", dir / name, "--format", "json", "-o", "-"}).out);
  };
  Json with = exported("a.h5");
  CHECK(with.erase("choice") == 1);
  CHECK(with == exported("none.h5"));

  // A latent cache has no values.
  good(choosing("tiny-deepseek2", dir / "latent.h5", {"--bits", "2"}));
  const Json choice = exported("latent.h5").at("choice");
  REQUIRE(choice.size() == 1);
  CHECK(choice[0].at("side") == "keys");
}

TEST_CASE("calibrate --choose and the chosen method: one line and the documented exit code") {
  TempFolder dir;
  const std::string map = dir / "m.h5", none = dir / "none.h5";
  good(calibrate("tiny-llama", none, {"--bits", "2"}));
  const auto refused = [](const Outcome& outcome, int code, const std::string& says) {
    CAPTURE(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(says));
    CHECK(outcome.out.empty());
  };
  refused(perplexity("tiny-llama", {"--map", none, "--k-method", "chosen", "--pairs", "K2"}), 3,
          "the map holds no choice of a method for keys at 2 bits\nhint: calibrate --choose");
  refused(perplexity("tiny-llama", {"--map", none, "--v-method", "chosen", "--pairs", "V2"}), 3,
          "no choice of a method for values at 2 bits");
  refused(perplexity("tiny-llama", {"--k-method", "chosen", "--pairs", "K2"}), 2, "chosen needs --map");
  refused(perplexity("tiny-llama", {"--k-method", "chosen", "--pairs", "K2", "--choose", "tq-mse/tq-mse"}), 2,
          "--choose: chosen is what a map chose already");
  refused(blockgtq(choosing("tiny-llama", map, {"--bits", "2.5"})), 2, "whole bits: 2.5");
  refused(blockgtq(choosing("tiny-llama", map, {"--budget-bytes-per-token", "900"})), 2, "give --bits");
  refused(blockgtq(calibrate("tiny-llama", map, {"--choose", "--choose-tokens", "1000000"})), 3, "too short");
  refused(blockgtq(calibrate("tiny-llama", map, {"--choose-tokens", "64"})), 2, "--choose");
  std::vector<std::string> all = choosing("tiny-llama", map, {});
  all[6] = "0";  // --tokens
  refused(blockgtq(all), 2, "--choose needs tokens behind those of --tokens");
  all[6] = "512";
  all[4] = "-";  // -f
  refused(blockgtq(all), 2, "--choose reads the text twice");
}

TEST_CASE("calibrate --choose with exact positions: kept by the map, and a cache with others is told") {
  TempFolder dir;
  const std::string map = dir / "m.h5", plain = dir / "plain.h5";
  good(choosing("tiny-llama3", map, {"--bits", "2", "--choose-sink", "4", "--choose-recent", "8"}));
  good(choosing("tiny-llama3", plain, {"--bits", "2"}));
  const auto choice = [](const std::string& file) {
    return Json::parse(good({"inspect", file, "--json", "-"}).out).at("choice");
  };
  const Json held = choice(map), none = choice(plain);
  REQUIRE(held.size() == 2);
  for (const Json& c : held) {
    CHECK(c.at("sink") == 4);
    CHECK(c.at("recent") == 8);
  }
  CHECK_FALSE(none[0].contains("sink"));
  // Twelve of 64 positions are exact: more bytes, less KL.
  CHECK(held[0].at("candidates")[0].at("bytes_per_token") >
        none[0].at("candidates")[0].at("bytes_per_token"));
  CHECK(held[0].at("tq_mse_kl").get<double>() < none[0].at("tq_mse_kl").get<double>());
  CHECK_THAT(good({"inspect", map}).out, ContainsSubstring("sink 4, recent 8: "));

  const std::vector<std::string> chosen = {"--k-method", "chosen", "--pairs", "K2", "--sink", "4"};
  const auto told = [&](std::vector<std::string> more) {
    more.insert(more.end(), chosen.begin(), chosen.end());
    return perplexity("tiny-llama3", more);
  };
  const std::string warning = "the map's choice was measured with sink 4, recent 8, this cache has sink 4";
  CHECK_THAT(told({"--map", map}).err, ContainsSubstring(warning));
  CHECK_THAT(told({"--map", plain}).err,
             ContainsSubstring("measured with no exact position, this cache has sink 4"));
  CHECK(told({"--map", map, "--recent", "8"}).err.find("measured with") == std::string::npos);
}

}  // namespace blockgtq
