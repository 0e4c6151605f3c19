// The panel: one report over many models; a broken model loses only itself; what is done is not done again.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

std::string write_spec(const TempFolder& dir, const std::vector<std::string>& models) {
  Json spec = {{"schema", "blockgtq.panel-spec/1"},
               {"calibration", {{"text", text("calibration")}, {"tokens", 512}}},
               {"evaluation", {{"text", text("evaluation")}, {"tokens", 512}}},
               {"chunk", 256},
               {"bits", {3}},
               {"methods", {"tq-mse", "block-gtq"}}};
  for (const std::string& m : models) spec["models"].push_back({{"name", m}, {"path", model(m)}});
  const std::string path = dir / "spec.json";
  put_file(path, spec.dump());
  return path;
}

}  // namespace

TEST_CASE("panel writes its four files and one map per model") {
  TempFolder dir;
  const std::string spec = write_spec(dir, {"tiny-qwen2-hd64", "tiny-deepseek2"}), out = dir / "out";
  good({"panel", spec, "-o", out, "-q"});
  for (const char* name :
       {"panel.json", "panel.csv", "panel.md", "index.html", "models/tiny-deepseek2.map.h5"})
    CHECK(std::filesystem::exists(out + "/" + name));
  const Json panel = Json::parse(get_file(out + "/panel.json"));
  CHECK(panel.at("schema") == "blockgtq.panel/1");
  REQUIRE(panel.at("models").size() == 2);
  for (const Json& m : panel.at("models")) {
    CHECK(m.at("status") == "ok");
    CHECK(m.at("eval").at("schema") == "blockgtq.eval-logits/1");
  }
  CHECK(panel["models"][1]["architecture"]["pairing"] == "interleaved");

  SECTION("a second run reuses every result and gives the same bytes") {
    const std::string before = get_file(out + "/panel.json"), page = get_file(out + "/index.html");
    good({"panel", spec, "-o", out, "-q", "--resume", "must"});
    const bool reused = get_file(out + "/panel.json") == before;
    CHECK(reused);
    good({"panel", spec, "-o", dir / "again", "-q", "-t", "1"});
    const bool same_again =
        get_file(dir / "again/panel.json") == before && get_file(dir / "again/index.html") == page;
    CHECK(same_again);
  }
  SECTION("other options are another panel") {
    good({"panel", spec, "-o", out, "-q", "--bits", "2"});
    CHECK(Json::parse(get_file(out + "/panel.json"))["models"][0]["eval"]["summary"][0]["bits"] == 2.0);
  }
}

TEST_CASE("panel --metrics: with intervals in panel.json, and another panel than one without") {
  TempFolder dir;
  const std::string spec = write_spec(dir, {"tiny-qwen2-hd64", "tiny-deepseek2"}), out = dir / "out";
  good({"panel", spec, "-o", out, "-q"});
  good({"panel", spec, "-o", out, "-q", "--metrics", "kl,topk"});
  const Json panel = Json::parse(get_file(out + "/panel.json"));
  CHECK_THAT(panel.at("command").get<std::string>(), ContainsSubstring("--metrics kl,topk"));
  for (const Json& row : panel["models"][0]["eval"]["summary"]) {
    CHECK(row.at("metrics").size() == 3);
    CHECK(row["metrics"]["kl"]["low"] < row["metrics"]["kl"]["high"]);
  }
  CHECK(panel["models"][1]["eval"].at("left_out").size() == 2);  // latent attention
  CHECK(blockgtq({"panel", spec, "-o", out, "--metrics", "none"}).code == 2);
}

TEST_CASE("a failed model is reported and the others are not lost") {
  TempFolder dir;
  const std::string spec = write_spec(dir, {"tiny-qwen2-hd64", "no-such-model"}), out = dir / "out";
  const Outcome outcome = blockgtq({"panel", spec, "-o", out, "-q"});
  CHECK(outcome.code == 1);
  CHECK(error_lines(outcome) == 1);
  const Json panel = Json::parse(get_file(out + "/panel.json"));
  CHECK(panel["models"][0]["status"] == "ok");
  CHECK(panel["models"][1]["status"] == "failed");
  CHECK_THAT(get_file(out + "/index.html"), ContainsSubstring("no-such-model"));
}

}  // namespace blockgtq
