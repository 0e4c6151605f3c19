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

TEST_CASE("panel: allocator options, on the command line or in the file, are those of calibrate") {
  TempFolder dir;
  const std::string spec = write_spec(dir, {"tiny-qwen2-hd64"}), out = dir / "out";
  good({"panel", spec, "-o", out, "-q"});
  const Json published = Json::parse(get_file(out + "/panel.json"));
  CHECK(!published.at("provenance").contains("allocation"));

  // D = 64: 3.25 bits are uniform 3 bits and a norm
  const std::vector<std::string> options = {"--cost",         "packed",  "--allocator",  "mixing",
                                            "--allowed-bits", "2,3,4,8", "--bits",       "3.25",
                                            "--share",        "model",   "--max-groups", "2"};
  std::vector<std::string> args = {"panel", spec, "-o", out, "-q"};  // the same folder: another panel
  args.insert(args.end(), options.begin(), options.end());
  args.insert(args.end(), {"--methods", "block-gtq"});
  good(args);
  const Json by_options = Json::parse(get_file(out + "/panel.json"));
  CHECK_THAT(by_options.at("command").get<std::string>(), ContainsSubstring("--allowed-bits 2,3,4,8"));
  CHECK_THAT(by_options.at("provenance").at("allocation").get<std::string>(), ContainsSubstring("mixing"));
  const Json row = by_options["models"][0]["eval"]["summary"][0];
  CHECK(row.at("bytes_per_token").get<double>() <= 4 * 2 * 26);  // 4 layers, 2 heads
  CHECK(row["bytes_per_token"].get<double>() > 4 * 2 * 24);

  std::vector<std::string> calibrate = {
      "calibrate", "-m",        model("tiny-qwen2-hd64"), "-f", text("calibration"), "--tokens", "512", "-q",
      "-o",        dir / "m.h5"};
  calibrate.insert(calibrate.end(), options.begin(), options.end());
  good(calibrate);
  CHECK(same_bytes(dir / "m.h5", out + "/models/tiny-qwen2-hd64.map.h5"));

  Json with_allocation = Json::parse(get_file(spec));
  with_allocation["bits"] = {3.25};
  with_allocation["methods"] = {"block-gtq"};
  with_allocation["allocation"] = {{"cost", "packed"},
                                   {"allocator", "mixing"},
                                   {"allowed_bits", {2, 3, 4, 8}},
                                   {"share", "model"},
                                   {"max_groups", 2}};
  put_file(spec, with_allocation.dump());
  good({"panel", spec, "-o", out, "-q", "--resume", "must"});  // the same inputs: nothing to compute
  const Json by_file = Json::parse(get_file(out + "/panel.json"));
  const bool same = by_file.at("models") == by_options.at("models");
  CHECK(same);
  // An option takes the place of the file's value, and only of that.
  good({"panel", spec, "-o", out, "-q", "--max-groups", "8"});
  const Json over = Json::parse(get_file(out + "/panel.json"));
  CHECK(over.at("command") == "blockgtq panel spec.json --max-groups 8 -o DIR");
  CHECK(over["provenance"]["allocation"] ==
        "--cost packed --allocator mixing --allowed-bits 2,3,4,8 --share model");
  // perplexity allocates as the file says
  const Json quality = Json::parse(good({"perplexity", "--panel", spec, "--tokens", "128", "--k-method",
                                         "block-gtq", "--pairs", "K3.25", "--json", "-", "-q"})
                                       .out);
  CHECK(quality["models"][0]["caches"][0]["bytes_per_token"] == row["bytes_per_token"]);

  struct Mistake {
    Json allocation;
    const char* says;
  };
  const std::vector<Mistake> mistakes = {
      {{{"allocators", "mixing"}}, "unknown key allocators"},
      {{{"cost", "free"}}, "free"},
      {{{"share", 1}}, "share: 1"},
      {{{"max_groups", 0}}, "max_groups: 0"},
      {{{"min_bits", 2.5}}, "min_bits: 2.5"},
      {{{"min_bits", 4}, {"max_bits", 3}}, "4 to 3"},
      {{{"allowed_bits", {2, 9}}, {"allocator", "exact"}}, "allowed_bits: [2,9]"},
      {{{"allowed_bits", "2,3"}, {"allocator", "exact"}}, "a list of widths"},
      {{{"allowed_bits", {2, 4}}}, "greedy"},
      {"mixing", "wrong type"},
  };
  for (const Mistake& m : mistakes) {
    with_allocation["allocation"] = m.allocation;
    put_file(spec, with_allocation.dump());
    const Outcome outcome = blockgtq({"panel", spec, "-o", out, "-q"});
    CAPTURE(outcome.err, m.says);
    CHECK(outcome.code == 3);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("allocation") && ContainsSubstring(m.says));
  }
  with_allocation.erase("allocation");
  put_file(spec, with_allocation.dump());
  CHECK(blockgtq({"panel", spec, "-o", out, "--cost", "free"}).code == 2);
  CHECK(blockgtq({"panel", spec, "-o", out, "--max-groups", "2"}).code == 2);  // greedy
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
