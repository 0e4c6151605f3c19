// eval-logits --metrics: what is measured beside the published error, and how it is told.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

std::vector<std::string> eval(const std::string& name, std::vector<std::string> more) {
  std::vector<std::string> args = {"eval-logits", "-m",     model(name), "-f", text("evaluation"),
                                   "--tokens",    "200",    "--chunk",   "64", "--methods",
                                   "tq-mse",      "--bits", "2,3",       "-q"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace

TEST_CASE("eval-logits --metrics all: values with intervals, in every form") {
  TempFolder dir;
  const std::string json_file = dir / "r.json", csv = dir / "r.csv", markdown = dir / "r.md";
  const std::string shown =
      good(eval("tiny-llama", {"--metrics", "all", "--json", json_file, "--csv", csv, "--md", markdown})).out;
  const auto json = nlohmann::json::parse(get_file(json_file));
  REQUIRE(json.at("layers").size() == 4);
  CHECK(json.at("intervals").at("resamples") == 1000);
  CHECK(json.at("left_out").at("mae-model").is_string());  // mae itself is on the model's frequencies
  const std::vector<std::string> names = {"mae", "weighted", "kl", "topk", "output"};
  auto check_metrics = [&](const nlohmann::json& row) {
    REQUIRE(row.at("metrics").size() == names.size());
    for (const std::string& name : names) {
      const auto& m = row["metrics"].at(name);
      CHECK(m.at("value") > 0);
      CHECK(m.at("low") <= m.at("value"));
      CHECK(m.at("value") <= m.at("high"));
    }
    CHECK(row["metrics"]["mae"]["value"] == row.at("mae"));
    CHECK(row["metrics"]["topk"]["value"] < 1);
  };
  for (const auto& layer : json["layers"])
    for (const auto& row : layer.at("results")) check_metrics(row);
  for (const auto& row : json.at("summary")) check_metrics(row);
  // one bit more: less of every error, more of the top kept
  const auto &two = json["summary"][0]["metrics"], &three = json["summary"][1]["metrics"];
  for (const std::string& name : names) {
    INFO(name);
    const bool fell = three[name]["value"] < two[name]["value"];
    CHECK(fell == (name != "topk"));
  }
  for (const char* column : {"kl, layer", "weighted, layer", "topk (95 %)", "output (95 %)"})
    CHECK_THAT(shown, ContainsSubstring(column));
  CHECK_THAT(get_file(csv), ContainsSubstring("tq-mse 3b kl,tq-mse 3b kl low,tq-mse 3b kl high"));
  CHECK_THAT(get_file(markdown), ContainsSubstring("kl (95 %)"));
  // The errors are those of a run that asks for nothing else.
  auto plain = nlohmann::json::parse(good(eval("tiny-llama", {"--json", "-"})).out);
  CHECK_FALSE(plain.contains("intervals"));
  for (size_t l = 0; l < 4; ++l)
    for (size_t r = 0; r < 2; ++r)
      CHECK(plain["layers"][l]["results"][r]["mae"] == json["layers"][l]["results"][r]["mae"]);
}

TEST_CASE("eval-logits --metrics: threads and dumps change nothing, one name is enough") {
  TempFolder dir;
  const std::string acts = dir / "a.h5";
  const std::string one = good(eval("tiny-glm", {"--metrics", "kl,topk", "-t", "1", "--json", "-"})).out;
  const std::string two = good(eval("tiny-glm", {"--metrics", "topk,kl", "-t", "2", "--json", "-"})).out;
  const bool same = one == two;
  CHECK(same);
  CHECK(nlohmann::json::parse(one)["summary"][0]["metrics"].size() == 3);  // mae is always there
  good({"dump", "-m", model("tiny-glm"), "-f", text("evaluation"), "--tokens", "200", "--chunk", "64", "-o",
        acts, "-q"});
  const auto dumped =
      nlohmann::json::parse(good({"eval-logits", "--activations", acts, "--methods", "tq-mse", "--bits",
                                  "2,3", "--metrics", "kl,topk", "--json", "-", "-q"})
                                .out);
  CHECK(dumped == nlohmann::json::parse(one));
  const bool as_default = good(eval("tiny-glm", {"--metrics", "mae"})).out == good(eval("tiny-glm", {})).out;
  CHECK(as_default);
}

TEST_CASE("eval-logits --sink and --recent: of the metrics that have positions, named and counted") {
  const auto run = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--metrics", "kl", "--json", "-"});
    return nlohmann::json::parse(good(eval("tiny-llama", more)).out);
  };
  const auto none = run({}), sink = run({"--sink", "4"}), both = run({"--sink", "4", "--recent", "8"}),
             all = run({"--recent", "64"});
  const auto value = [](const nlohmann::json& doc) {
    return doc.at("summary").at(0).at("metrics").at("kl").at("value").get<double>();
  };
  CHECK(none.at("sink") == 0);
  CHECK(both.at("sink") == 4);
  CHECK(both.at("recent") == 8);
  CHECK(value(sink) < value(none));
  CHECK(value(both) < value(sink));
  CHECK(value(all) == 0);
  for (const auto& doc : {sink, both, all}) CHECK(doc["summary"][0]["mae"] == none["summary"][0]["mae"]);
  // 4 layers, 2 heads of 128, fp16 all of them
  CHECK(all["summary"][0].at("bytes_per_token") == 4 * 2 * 128 * 2);
  CHECK(all["summary"][0].at("effective_bits") == 16);
  const std::string text = good(eval("tiny-llama", {"--metrics", "kl", "--sink", "4", "--recent", "8"})).out;
  for (const char* column :
       {"kl, sink 4, recent 8, layer", "kl, sink 4, recent 8 (95 %)", "K bytes/token, sink 4, recent 8"})
    CHECK_THAT(text, ContainsSubstring(column));
  CHECK_THAT(good(eval("tiny-llama", {"--metrics", "kl", "--sink", "4", "--csv", "-"})).out,
             ContainsSubstring("\"tq-mse 3b kl, sink 4 low\""));
  for (const char* metrics : {"mae", "mae-model"}) {
    const Outcome outcome = blockgtq(eval("tiny-llama", {"--metrics", metrics, "--recent", "8"}));
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, ContainsSubstring("--sink and --recent: mae has no positions"));
  }
}

TEST_CASE("mae-model is measured where the published error is on other frequencies") {
  const auto raw = nlohmann::json::parse(
      good(eval("tiny-llama3", {"--theta", "raw", "--metrics", "mae-model", "--json", "-"})).out);
  const auto own = nlohmann::json::parse(good(eval("tiny-llama3", {"--json", "-"})).out);
  for (size_t r = 0; r < 2; ++r) {
    const auto& row = raw["layers"][0]["results"][r];
    CHECK(row["metrics"]["mae-model"]["value"].get<double>() ==
          Approx(own["layers"][0]["results"][r]["mae"].get<double>()).epsilon(1e-12));  // summed by chunks
    CHECK(row["mae"] != own["layers"][0]["results"][r]["mae"]);
  }
}

TEST_CASE("what cannot be measured is left out and said") {
  const Outcome outcome = good(eval("tiny-deepseek2", {"--metrics", "all", "--json", "-"}));
  CHECK_THAT(outcome.err, ContainsSubstring("left out: weighted, kl, topk, output: latent attention"));
  const auto json = nlohmann::json::parse(outcome.out);
  for (const char* name : {"weighted", "kl", "topk", "output"}) CHECK(json.at("left_out").contains(name));
  CHECK(json["summary"][0]["metrics"].size() == 1);
}

TEST_CASE("eval-logits --metrics: names nobody knows") {
  for (const std::string names : {"klx", "", "mae,", "kl,,topk", "all,none"}) {
    const Outcome outcome = blockgtq(eval("tiny-llama", {"--metrics", names}));
    INFO(names);
    CHECK(outcome.code == 2);
    CHECK(error_lines(outcome) == 1);
  }
}

}  // namespace blockgtq
