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

TEST_CASE("panel --resume: what is not as it was written is computed anew") {
  TempFolder dir;
  const std::string name = "tiny-qwen2-hd64", out = dir / "out";
  const std::string spec = write_spec(dir, {name, "tiny-deepseek2"});
  good({"panel", spec, "-o", out, "-q"});
  const std::string panel = get_file(out + "/panel.json"), path = out + "/models/" + name + ".json",
                    map_path = out + "/models/" + name + ".map.h5", state = get_file(path),
                    map = get_file(map_path);
  const std::string foreign = get_file(out + "/models/tiny-deepseek2.map.h5");
  auto changed = nlohmann::ordered_json::parse(state), retitled = changed;
  changed["eval"]["summary"][1]["mae"] = 0.001;
  retitled.erase("sha256");

  struct Damage {
    const char* what;
    std::string state, map;
  };
  const std::vector<Damage> all = {
      {"a changed number", changed.dump(2), map},
      {"no digest", retitled.dump(2), map},
      {"cut short", state.substr(0, state.size() / 2), map},
      {"empty", "", map},
      {"another kind of JSON", "[1, 2]", map},
      {"a null", "null", map},
      {"a result of other inputs", get_file(out + "/models/tiny-deepseek2.json"), map},
      {"an emptied map", state, ""},
      {"a foreign map", state, foreign},
      {"a map cut short", state, map.substr(0, map.size() - 1)},
  };
  for (const Damage& damage : all) {
    put_file(path, damage.state);
    put_file(map_path, damage.map);
    CAPTURE(damage.what);
    CHECK(blockgtq({"panel", spec, "-o", out, "-q", "--resume", "must"}).code == 1);
    const Outcome again = good({"panel", spec, "-o", out, "-q"});
    const bool whole =
        get_file(out + "/panel.json") == panel && get_file(path) == state && get_file(map_path) == map;
    CHECK(whole);
    const bool warned = again.err.find(": computed anew") != std::string::npos;
    CHECK(warned == (damage.what != std::string("a result of other inputs")));
  }
  std::filesystem::remove(map_path);
  good({"panel", spec, "-o", out, "-q"});
  CHECK(get_file(map_path) == map);
  good({"panel", spec, "-o", out, "-q", "--resume", "must"});
}

TEST_CASE("panel --resume: every byte of the weights counts") {
  TempFolder dir;
  const std::string name = "tiny-qwen2-hd64", copy = dir / "copy", out = dir / "out";
  std::filesystem::copy(model(name), copy);
  Json spec = Json::parse(get_file(write_spec(dir, {name})));
  spec["models"][0]["path"] = copy;
  put_file(dir / "spec.json", spec.dump());
  const std::vector<std::string> run = {"panel", dir / "spec.json", "-o", out, "-q"};
  good(run);
  const Json before = Json::parse(get_file(out + "/panel.json"));
  // One byte in a thousand, the high half of a bf16, far from the file's ends.
  std::string weights = get_file(copy + "/model.safetensors");
  for (size_t i = weights.size() / 2; i < weights.size() * 3 / 4; i += 1000) weights[i | 1] ^= 0x01;
  put_file(copy + "/model.safetensors", weights);
  good(run);
  const Json after = Json::parse(get_file(out + "/panel.json"));
  CHECK(before["models"][0]["signature"] != after["models"][0]["signature"]);
  CHECK(before["models"][0]["eval"]["summary"][0]["mae"] != after["models"][0]["eval"]["summary"][0]["mae"]);
}

TEST_CASE("panel's four files appear together") {
  TempFolder dir;
  const std::string spec = write_spec(dir, {"tiny-qwen2-hd64"}), out = dir / "out";
  std::filesystem::create_directories(out + "/panel.md");
  const Outcome outcome = blockgtq({"panel", spec, "-o", out, "-q"});
  CHECK(outcome.code == 4);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("panel.md: cannot write: it is a folder"));
  size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(out)) ++n;
  CHECK(n == 2);  // that folder, and an empty models/: nothing was computed
  CHECK(std::filesystem::is_empty(out + "/models"));
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

  const std::string held = dir / "held";
  good({"panel", spec, "-o", held, "-q", "--metrics", "kl,topk", "--sink", "4", "--recent", "8"});
  const Json with_exact = Json::parse(get_file(held + "/panel.json"));
  CHECK_THAT(with_exact.at("command").get<std::string>(),
             ContainsSubstring("--metrics kl,topk --sink 4 --recent 8"));
  CHECK(with_exact.at("provenance").at("exact") == "sink 4, recent 8");
  CHECK(with_exact.at("models").at(0).at("eval").at("recent") == 8);
  // Another panel: nothing to resume from.
  CHECK(blockgtq({"panel", spec, "-o", held, "-q", "--metrics", "kl,topk", "--resume", "must"}).code != 0);
}

TEST_CASE("panel --calibrate-from: the maps are those of calibrate, the panel is another") {
  TempFolder dir;
  const std::string name = "tiny-qwen2-hd64", spec = write_spec(dir, {name}), out = dir / "out",
                    map = dir / "m.h5";
  good({"panel", spec, "-o", out, "-q"});
  const Json all = Json::parse(get_file(out + "/panel.json"));
  good({"panel", spec, "-o", out, "-q", "--calibrate-from", "4"});
  const Json rest = Json::parse(get_file(out + "/panel.json"));
  CHECK(rest.at("provenance").at("calibrate_from") == "4");
  CHECK_THAT(rest.at("command").get<std::string>(), ContainsSubstring(" --calibrate-from 4"));
  const Json &before = all["models"][0], &after = rest["models"][0];
  CHECK(before.at("signature") != after.at("signature"));
  CHECK(before.at("eval").at("tokens") == after.at("eval").at("tokens"));
  CHECK(before["eval"].at("provenance") == after["eval"].at("provenance"));  // every position is scored
  good({"calibrate", "-m", model(name), "-f", text("calibration"), "--tokens", "512", "-q", "-o", map,
        "--calibrate-from", "4"});
  CHECK(same_bytes(map, out + "/models/" + name + ".map.h5"));
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
