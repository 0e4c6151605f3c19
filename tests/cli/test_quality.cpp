// perplexity and niah: what a quantized cache does to what the model says.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/small_panel.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

const std::string kText = text("evaluation"), kCalibration = text("calibration");

std::vector<std::string> perplexity(std::vector<std::string> args, const std::string& name = "tiny-llama") {
  const std::vector<std::string> common = {"perplexity", "-m",  model(name), "-f",  kText,
                                           "--tokens",   "300", "--chunk",   "128", "-q"};
  args.insert(args.begin(), common.begin(), common.end());
  return args;
}

const std::vector<std::string> kCalibrated = {"--calibration", kCalibration, "--calibration-tokens", "256"};

std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace

TEST_CASE("perplexity: nothing against itself, more bits are less KL, any number of threads") {
  const std::vector<std::string> args = perplexity(
      {"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2,V2,K3V3,K8V8", "--json", "-"});
  const std::string out = good(args).out;
  const Json m = Json::parse(out).at("models").at(0);
  CHECK(m.at("noise_floor").at("kl_mean") == 0.0);
  CHECK(m.at("noise_floor").at("kl_max") == 0.0);
  CHECK(m.at("noise_floor").at("same_top") == 1.0);
  CHECK(m.at("tokens") == 300);
  CHECK(m.at("predicted") == 297);  // windows of 128, 128 and 44: the last token of each has no next one
  CHECK(m.at("exact").at("perplexity") > 1.0);
  REQUIRE(m.at("caches").size() == 4);
  auto kl = [&](int i) { return m["caches"][size_t(i)].at("kl_mean").get<double>(); };
  CHECK(kl(0) > 0);
  CHECK(kl(1) > 0);
  // KL is of second order in the error: from 3 to 8 bits the squared error falls by 4^5, of which the
  // published codebook gives back a factor of 4.
  CHECK(kl(3) > 0);
  CHECK(kl(3) < kl(2) / 50);
  CHECK(m["caches"][3].at("same_top") > 0.95);
  // tiny-llama: 4 layers, 2 heads, D = 128, an fp16 norm each
  CHECK(m["caches"][0].at("bytes_per_token") == 4 * 2 * (128 * 2 / 8 + 2));
  CHECK(m["caches"][2].at("v_bytes_per_token") == 4 * 2 * (128 * 3 / 8 + 2));
  const bool same = good(with(args, {"-t", "1"})).out == out && good(with(args, {"-t", "2"})).out == out;
  CHECK(same);
}

TEST_CASE("results: any one of them goes to standard output") {
  TempFolder dir;
  const auto with = [](const char* option, const std::string& name) {
    return perplexity({"--k-method", "tq-mse", "--pairs", "K2", option, name});
  };
  for (const char* option : {"--json", "--csv", "--md"}) {
    good(with(option, dir / option));
    CHECK(good(with(option, "-")).out == get_file(dir / option));
  }
  const Outcome two =
      blockgtq(perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--json", "-", "--csv", "-"}));
  CHECK(two.code == 2);
  CHECK_THAT(two.err, ContainsSubstring("standard output takes one"));
}

TEST_CASE("perplexity: the model's alone, where nothing is quantized") {
  const Json both = Json::parse(good(perplexity({"--k-method", "fp8", "--pairs", "K8", "--json", "-"})).out);
  const Json alone = Json::parse(good(perplexity({"--json", "-"})).out);
  CHECK(alone.at("models").at(0).at("exact") == both.at("models").at(0).at("exact"));
  CHECK(alone.at("models").at(0).at("caches").empty());
  CHECK_FALSE(alone.at("models").at(0).contains("noise_floor"));
  CHECK_THAT(good(perplexity({})).out, ContainsSubstring("perplexity"));
  for (const auto& more :
       {std::vector<std::string>{"--pairs", "K3"}, {"--calibration", kCalibration}, {"--fail-if", "kl>1"}}) {
    const Outcome refused = blockgtq(perplexity(more));
    CHECK(refused.code == 2);
    CHECK_THAT(refused.err, ContainsSubstring("nothing to quantize: give --k-method or --v-method"));
  }
}

TEST_CASE("perplexity: positions held exactly are named, counted, and without error") {
  const auto run = [](const char* sink) {
    return Json::parse(good(perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2V2",
                                        "--sink", sink, "--json", "-"}))
                           .out)
        .at("models")
        .at(0)
        .at("caches")
        .at(0);
  };
  const Json none = run("0"), some = run("64"), all = run("128");
  CHECK(none.at("sink") == 0);
  CHECK(some.at("sink") == 64);
  CHECK(some.at("kl_mean") < none.at("kl_mean"));
  CHECK(all.at("kl_max") == 0.0);
  CHECK(all.at("bytes_per_token") == 4 * 2 * 2 * 128 * 2);  // layers, K and V, heads, numbers of 16 bits
  CHECK_THAT(good(perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--sink", "4"})).out,
             ContainsSubstring("K2, sink 4"));
}

TEST_CASE("perplexity: the more recent positions a query sees exactly, the less the cache does") {
  const auto run = [](const std::string& name, int64_t recent, const std::string& sink = "0") {
    std::vector<std::string> args = {"--k-method",           "tq-mse", "--pairs", "K2",     "--recent",
                                     std::to_string(recent), "--sink", sink,      "--json", "-"};
    if (name != "tiny-deepseek2") {  // which caches a latent, not values
      args[3] = "K2V2";
      args.insert(args.end(), {"--v-method", "tq-mse"});
    }
    return Json::parse(good(perplexity(args, name)).out).at("models").at(0).at("caches").at(0);
  };
  for (const std::string name : {"tiny-llama", "tiny-mistral", "tiny-deepseek2"}) {
    INFO(name);
    double before = std::numeric_limits<double>::infinity();
    for (const int64_t recent : {0, 1, 4, 16, 64, 128}) {
      const Json cache = run(name, recent);
      CHECK(cache.at("recent") == recent);
      CHECK(cache.at("kl_mean") < before);
      before = cache["kl_mean"];
    }
    CHECK(before == 0.0);  // windows of 128: as the exact model, to the last bit
  }
  // 4 layers, K and V, 2 heads of 128: codes with an fp16 norm, and 16 bits a number in 4 + 8 of 128
  // positions
  const Json both = run("tiny-llama", 8, "4");
  CHECK(both.at("sink") == 4);
  CHECK(both.at("bytes_per_token") == 4 * 2 * 2 * (116 * (128 * 2 / 8 + 2) + 12 * 128 * 2) / 128.0);
  CHECK(both.at("kl_mean") < run("tiny-llama", 8).at("kl_mean"));
}

TEST_CASE("perplexity and niah --recent: named, chosen with, the same for any number of threads") {
  const std::vector<std::string> exact = {"--sink", "4", "--recent", "8"};
  const std::vector<std::string> args =
      with(perplexity({"--k-method", "tq-mse,kivi", "--pairs", "K2"}), exact);
  const std::string text = good(args).out;
  CHECK_THAT(text, ContainsSubstring("K2, sink 4, recent 8"));
  const bool same = good(with(args, {"-t", "1"})).out == text && good(with(args, {"-t", "3"})).out == text;
  CHECK(same);
  CHECK_THAT(good(with(args, {"--csv", "-"})).out, ContainsSubstring("sink,recent,"));
  const Json chosen = Json::parse(good(with(with(perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse",
                                                             "--bits-kv", "2", "--json", "-"}),
                                                 kCalibrated),
                                            exact))
                                      .out);
  const Json& choice = chosen.at("models").at(0).at("choices").at(0);
  CHECK(choice.at("reference").at("recent") == 8);
  CHECK(choice.at("chosen").at("recent") == 8);
  CHECK(choice.at("candidates").at(0).at("recent") == 8);
  const std::vector<std::string> niah =
      with({"niah", "-m", model("tiny-llama"), "-f", kText, "--k-method", "tq-mse", "--pairs", "K2",
            "--context", "96", "--questions", "4", "-q"},
           exact);
  CHECK_THAT(good(niah).out, ContainsSubstring("K2, sink 4, recent 8"));
  CHECK(Json::parse(good(with(niah, {"--json", "-"})).out).at("results").at(1).at("recent") == 8);
  // No kernel reads two keys of one position.
  for (const std::vector<std::string>& command : {args, niah}) {
    const Outcome outcome = blockgtq(with(command, {"--device", "cuda"}));
    CHECK(outcome.code == 5);
    CHECK_THAT(outcome.err, ContainsSubstring("error: --device: cuda: no kernel for recent positions\n"
                                              "hint: --device cpu"));
  }
}

TEST_CASE("perplexity: a map, or a calibration on the way, is the same; csv and md are written") {
  TempFolder dir;
  const std::string map = dir / "m.h5", csv = dir / "q.csv", md = dir / "q.md";
  good({"calibrate", "-m", model("tiny-llama"), "-f", kCalibration, "--tokens", "256", "--bits", "2,3", "-q",
        "-o", map});
  const std::vector<std::string> args =
      perplexity({"--k-method", "block-gtq,tq-mse", "--pairs", "K2,K3", "--json", "-"});
  const Json from_map = Json::parse(good(with(args, {"--map", map, "--csv", csv, "--md", md})).out);
  const Json on_the_way = Json::parse(good(with(args, kCalibrated)).out);
  const bool same = from_map == on_the_way;
  CHECK(same);
  CHECK(from_map["models"][0]["caches"].size() == 4);
  const std::string rows = get_file(csv);
  CHECK(std::count(rows.begin(), rows.end(), '\n') == 6);  // header, exact, four caches
  CHECK_THAT(get_file(md), ContainsSubstring("| K3 "));
}

TEST_CASE("perplexity and niah --calibrate-from: what is calibrated on the way leaves first positions out") {
  TempFolder dir;
  const std::string map = dir / "m.h5";
  good({"calibrate", "-m", model("tiny-llama"), "-f", kCalibration, "--tokens", "256", "--bits", "2", "-q",
        "--calibrate-from", "4", "-o", map});
  const std::vector<std::string> args =
      perplexity({"--k-method", "block-gtq", "--pairs", "K2", "--json", "-"});
  const Json from_map = Json::parse(good(with(args, {"--map", map})).out).at("models").at(0),
             all = Json::parse(good(with(args, kCalibrated)).out).at("models").at(0),
             rest = Json::parse(good(with(with(args, kCalibrated), {"--calibrate-from", "4"})).out)
                        .at("models")
                        .at(0);
  CHECK(rest.at("caches") == from_map.at("caches"));
  CHECK(rest.at("caches") != all.at("caches"));
  CHECK(rest.at("provenance").at("calibrate_from") == "4");
  CHECK_FALSE(all.at("provenance").contains("calibrate_from"));
  const Json niah = Json::parse(
      good(with({"niah", "-m", model("tiny-llama"), "-f", kText, "--k-method", "block-gtq", "--pairs", "K2",
                 "--context", "96", "--questions", "2", "-q", "--json", "-", "--calibrate-from", "4"},
                kCalibrated))
          .out);
  CHECK(niah.at("calibrate_from") == 4);
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--map", map}}) {
    const Outcome outcome = blockgtq(with(args, with(more, {"--calibrate-from", "4"})));
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, ContainsSubstring("--calibrate-from: nothing is calibrated"));
  }
}

TEST_CASE("perplexity --codebook: for all methods; without it each has its own") {
  auto run = [](const std::string& method, const std::vector<std::string>& options) {
    const std::vector<std::string> args = perplexity({"--k-method", method, "--pairs", "K6", "--json", "-"});
    return Json::parse(good(with(with(args, kCalibrated), options)).out)["models"][0];
  };
  for (const std::string method : {"tq-mse", "block-gtq-cb1"}) {
    const Json own = run(method, {}), reference = run(method, {"--codebook", "reference"}),
               exact = run(method, {"--codebook", "exact"});
    CHECK(own.at("codebook") == "by method");
    CHECK(exact.at("codebook") == "exact");
    const bool is_own = own["caches"] == (method == "tq-mse" ? reference : exact)["caches"];
    CHECK(is_own);
    // The published codebook of 6 bits has 1.6 times the squared error of the exact one, and KL is of second
    // order in the error: no chance of rotation makes up for half of that.
    CHECK(reference["caches"][0].at("kl_mean").get<double>() >
          1.2 * exact["caches"][0].at("kl_mean").get<double>());
  }
}

TEST_CASE("perplexity --pages: what pages hold in place of a method's fallback") {
  const auto kl_of = [](const std::string& method, const std::string& bits, bool pages) {
    std::vector<std::string> args = {"--k-method", method, "--pairs", bits, "--json", "-"};
    if (pages) args.push_back("--pages");
    const Json m = Json::parse(good(perplexity(with(args, kCalibrated))).out).at("models").at(0);
    CHECK(m.at("cache") == (pages ? "pages" : "by method"));
    return m.at("caches").at(0).at("kl_mean").get<double>();
  };
  CHECK(kl_of("tq-mse", "K3", true) == kl_of("tq-mse", "K3", false));  // it has none
  const double with_flag = kl_of("tq-mse-cb", "K3", true), plain = kl_of("tq-mse-cb", "K3", false);
  CHECK(with_flag != plain);
  CHECK(with_flag < 1.5 * plain);
  const Outcome refused =
      blockgtq(perplexity(with({"--k-method", "klt", "--pairs", "K3", "--pages"}, kCalibrated)));
  CHECK(refused.code == 3);
  CHECK_THAT(refused.err, ContainsSubstring("pages have no place for keys coded before RoPE"));
  const Outcome chosen = blockgtq(perplexity(with({"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs",
                                                   "K3V3", "--choose", "tq-mse/tq-mse", "--pages"},
                                                  kCalibrated)));
  CHECK(chosen.code == 2);
  CHECK_THAT(chosen.err, ContainsSubstring("--pages excludes --choose"));
}

TEST_CASE("perplexity: gates") {
  const std::vector<std::string> args = perplexity({"--k-method", "tq-mse", "--pairs", "K2"});
  good(with(args, {"--fail-if", "kl>1000", "--fail-if", "top<0.0001"}));
  const Outcome outcome = blockgtq(with(args, {"--fail-if", "kl>0"}));
  CHECK(outcome.code == 7);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("K2 tq-mse"));
  CHECK_THAT(outcome.out, ContainsSubstring("K2"));  // the result is not lost
}

TEST_CASE("perplexity: the calibration text chooses at the bytes of the reference, beyond noise") {
  const Json m = Json::parse(good(with(perplexity({"--k-method", "tq-mse,block-gtq-cb1", "--v-method",
                                                   "tq-mse", "--code", "scalar,trellis", "--pairs", "K3V3,K3",
                                                   "--choose", "block-gtq/tq-mse", "--json", "-"}),
                                       kCalibrated))
                                 .out)
                     .at("models")
                     .at(0);
  REQUIRE(m.at("choices").size() == 2);
  for (const Json& choice : m["choices"]) {
    const Json &candidates = choice.at("candidates"), &reference = candidates.at(0);
    auto is = [](const Json& cache, const Json& spec) {
      return cache["pair"] == spec["pair"] && cache["k_method"] == spec["k_method"] &&
             cache["v_method"] == spec["v_method"] && cache["code"] == spec["code"];
    };
    CHECK(is(reference, choice["reference"]));
    CHECK(reference.at("code") == "scalar");
    // tiny-llama: 4 layers, 2 heads, 128 numbers each of keys and, in K3V3, of values
    const double n_numbers = 4 * 2 * 128 * (reference["v_bits"] == 0 ? 1 : 2),
                 ceiling = reference["bytes_per_token"];
    auto priced = [&](const Json& c) {
      return c["kl_mean"].get<double>() *
             std::pow(4, 8 * (c["bytes_per_token"].get<double>() - ceiling) / n_numbers);
    };
    int trellis = 0, chosen = 0;
    for (const Json& c : candidates) {
      CHECK(c["bytes_per_token"] <= ceiling);
      trellis += c["code"] == "trellis";
      if (!is(c, choice["chosen"])) continue;
      ++chosen;
      // Trellis codes at the bytes of the reference are not within its noise.
      CHECK(priced(c) < priced(reference));
      CHECK(c["code"] == "trellis");
    }
    CHECK(trellis > 0);
    CHECK(chosen == 1);
    for (const char* which : {"reference", "chosen"}) {
      bool measured = false;
      for (const Json& c : m.at("caches")) measured |= is(c, choice[which]);
      CHECK(measured);
    }
  }
}

TEST_CASE("perplexity --bits-kv: the calibration text chooses how keys and values share the bits") {
  TempFolder dir;
  const std::string md = dir / "q.md";
  const Outcome outcome = good(with(perplexity({"--k-method", "block-gtq-cb1,tq-mse", "--v-method",
                                                "klt,tq-mse", "--bits-kv", "2.5", "--json", "-", "--md", md}),
                                    kCalibrated));
  const Json m = Json::parse(outcome.out).at("models").at(0);
  REQUIRE(m.at("choices").size() == 4);  // every pair of methods
  for (const Json& choice : m["choices"]) {
    const Json &even = choice.at("reference"), &chosen = choice.at("chosen");
    CHECK(chosen.at("k_method") == even.at("k_method"));
    CHECK(chosen.at("v_method") == even.at("v_method"));
    CHECK(even["k_bits"].get<double>() + even["v_bits"].get<double>() == 5);
    CHECK(chosen["k_bits"].get<double>() + chosen["v_bits"].get<double>() <= 5);
    CHECK(choice.at("candidates").at(0).at("pair") == even["pair"]);
    const double ceiling = choice["candidates"][0].at("bytes_per_token");
    int found = 0;
    for (const Json& c : choice["candidates"]) {
      CHECK(c["bytes_per_token"] <= ceiling);
      found += c["pair"] == chosen["pair"];
    }
    CHECK(found == 1);
  }
  // tiny-llama: 4 layers, 2 heads, 128 coordinates each of keys and values, and two norms
  CHECK(m["choices"][0]["reference"]["pair"] == "K2.5V2.5");
  CHECK(m["choices"][0]["candidates"].size() > 4);
  CHECK(m["caches"][0]["bytes_per_token"] == 4 * 2 * (2.5 * 2 * 128 / 8 + 2 * 2));
  CHECK(m["choices"][3]["reference"]["pair"] == "K3V2");  // whole bits: keys before values
  CHECK_THAT(get_file(md), ContainsSubstring("K2.5V2.5 block-gtq-cb1 / klt"));

  // nothing to split where a latent is cached: all to the keys
  const Outcome latent = good(
      with(perplexity({"--k-method", "block-gtq-cb1", "--v-method", "klt", "--bits-kv", "2.5", "--json", "-"},
                      "tiny-deepseek2"),
           kCalibrated));
  CHECK_THAT(latent.err, ContainsSubstring("latent"));
  CHECK(Json::parse(latent.out)["models"][0]["choices"][0]["chosen"]["pair"] == "K2.5");
}

TEST_CASE("perplexity: a panel goes on without the model that fails") {
  TempFolder dir;
  const std::string path = small_panel(dir, {"tiny-llama3", "no-such-model", "tiny-deepseek2", "tiny-glm"}),
                    json = dir / "q.json";
  const Outcome outcome = blockgtq({"perplexity", "--panel", path, "--k-method", "block-gtq", "--v-method",
                                    "tq-mse", "--pairs", "K3,K3V3", "--tokens", "200", "--json", json, "-q"});
  CAPTURE(outcome.err);
  CHECK(outcome.code == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("no-such-model"));
  CHECK_THAT(outcome.err, ContainsSubstring("tiny-deepseek2: caches a latent"));
  CHECK_THAT(outcome.out, ContainsSubstring("geometric mean over 2 models; without tiny-deepseek2"));
  const Json document = Json::parse(get_file(json));
  REQUIRE(document.at("models").size() == 4);
  CHECK(document["models"][1]["caches"].size() == 1);  // keys only
  CHECK(document["models"][3]["status"] == "failed");
}

TEST_CASE("niah: questions in a text, the same for every cache and number of threads") {
  const std::vector<std::string> args = {
      "niah",   "-m",      model("tiny-llama"), "-f",        kText,    "--k-method",  "tq-mse", "--v-method",
      "tq-mse", "--pairs", "K2V2,K8V8",         "--context", "96,160", "--questions", "6",      "--json",
      "-",      "-q"};
  const std::string out = good(args).out;
  const Json results = Json::parse(out).at("results");
  REQUIRE(results.size() == 6);
  for (const Json& r : results) {
    CHECK(r.at("questions") == 6);
    CHECK(r.at("accuracy").get<double>() <= r.at("token_accuracy").get<double>());
  }
  CHECK(results[0].at("k_method") == "exact");
  CHECK(results[0].at("token_accuracy") >= 0.5);
  const bool same = good(with(args, {"-t", "1"})).out == out;
  CHECK(same);
  const bool other_questions = good(with(args, {"--seed", "43"})).out != out;
  CHECK(other_questions);
}

TEST_CASE("perplexity and niah: one line and the documented exit code") {
  struct Mistake {
    std::vector<std::string> args;
    int code;
    const char* says;
  };
  const std::vector<Mistake> mistakes = {
      {{"perplexity", "-f", kText, "--k-method", "tq-mse"}, 2, "--panel"},
      {perplexity({"--pairs", "K2"}), 2, "--k-method"},
      {perplexity({"--k-method", "magic"}), 2, "magic"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2V2"}), 2, "--v-method"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "V2K2"}), 2, "V2K2"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K9"}), 2, "K9"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--bits-k", "2"}), 2, "exclude"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2.5"}), 2, "whole bits"},
      {perplexity({"--k-method", "block-gtq", "--pairs", "K2"}), 2, "--calibration"},
      {perplexity({"--k-method", "tq-mse", "--codebook", "best"}), 2, "best"},
      {perplexity({"--k-method", "tq-mse", "--fail-if", "kl=3"}), 2, "kl=3"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--choose", "tq-mse"}), 2, "--choose"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--choose", "tq-mse/tq-mse"}), 2,
       "--calibration"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "0"}), 2, "--bits-kv: '0'"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "-2"}), 2, "--bits-kv: '-2'"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "8.5"}), 2,
       "--bits-kv: '8.5'"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "3,x"}), 2, "--bits-kv: 'x'"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "3", "--pairs", "K2V2"}), 2,
       "excludes --pairs"},
      {perplexity(
           {"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "3", "--choose", "tq-mse/tq-mse"}),
       2, "--choose"},
      {perplexity({"--k-method", "tq-mse", "--bits-kv", "3"}), 2, "--v-method"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "3"}), 2, "--calibration"},
      {perplexity({"--k-method", "tq-mse", "--panel", kText}), 2, "exclude"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse"}, "tiny-deepseek2"), 3, "latent"},
      {{"niah", "-m", model("tiny-llama"), "-f", kText, "--k-method", "tq-mse", "--context", "8"}, 2, "'8'"},
      {{"niah", "-m", model("tiny-llama"), "-f", kText, "--tokens", "64", "--k-method", "tq-mse"},
       3,
       "haystack"},
  };
  for (const Mistake& m : mistakes) {
    const Outcome outcome = blockgtq(m.args);
    CAPTURE(outcome.err, m.says);
    CHECK(outcome.code == m.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(m.says));
    CHECK(outcome.out.empty());
  }
}

}  // namespace blockgtq
