// The data flow, every stop of it: one streamed pass must give the same bytes as the long way round.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

const std::string kModel = "tiny-qwen2-hd64";

std::vector<std::string> on_text(std::vector<std::string> args, const std::string& name = "calibration",
                                 int tokens = 640) {
  for (const std::string& a : {std::string("-m"), model(kModel), std::string("-f"), text(name),
                               std::string("--tokens"), std::to_string(tokens), std::string("-q")})
    args.push_back(a);
  return args;
}

}  // namespace

TEST_CASE("calibrate gives the bytes of dump, energy, allocate") {
  TempFolder dir;
  const std::string acts = dir / "a.h5", stats = dir / "s.h5", streamed = dir / "s2.h5", map = dir / "m.h5",
                    direct = dir / "m2.h5";
  good(on_text({"dump", "-o", acts}));
  good({"energy", acts, "-o", stats, "-q"});
  good(on_text({"energy", "-o", streamed}));
  CHECK(same_bytes(stats, streamed));
  good({"allocate", stats, "--bits", "2,3,4", "-o", map});
  good(on_text({"calibrate", "--bits", "2,3,4", "-o", direct}));
  CHECK(same_bytes(map, direct));
  CHECK(dir.entries() == 5);  // and no temporary file stays
}

TEST_CASE("--calibrate-from leaves the first positions of every chunk out, whichever the way") {
  TempFolder dir;
  const auto file = [&](const char* name) { return dir / name; };
  const std::vector<std::string> from = {"--calibrate-from", "4"};
  const auto energy = [&](const std::string& to, std::vector<std::string> more) {
    more.insert(more.begin(), {"energy", "--chunk", "64", "-o", to});
    return on_text(more, "calibration", 387);  // six chunks, and three tokens that no statistic counts
  };
  const auto with = [](std::vector<std::string> args, const std::vector<std::string>& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  good(energy(file("whole.h5"), from));
  good(on_text({"dump", "--chunk", "64", "-o", file("a.h5")}, "calibration", 387));
  good(with({"energy", file("a.h5"), "-o", file("dumped.h5"), "-q"}, from));
  CHECK(same_bytes(file("whole.h5"), file("dumped.h5")));
  good(energy(file("one.h5"), with(from, {"--part", "1/2"})));
  good(energy(file("two.h5"), with(from, {"--part", "2/2"})));
  good({"merge", file("two.h5"), file("one.h5"), "-o", file("merged.h5")});
  CHECK(same_bytes(file("whole.h5"), file("merged.h5")));
  good({"allocate", file("whole.h5"), "-o", file("m.h5")});
  good(with(on_text({"calibrate", "--chunk", "64", "-o", file("m2.h5")}, "calibration", 387), from));
  CHECK(same_bytes(file("m.h5"), file("m2.h5")));
  for (const char* name : {"whole.h5", "m.h5"})
    CHECK_THAT(good({"inspect", file(name)}).out, ContainsSubstring("calibrate_from"));

  // As published where nothing is left out; otherwise other numbers, which merge with their like only.
  good(energy(file("all.h5"), {}));
  good(energy(file("zero.h5"), {"--calibrate-from", "0"}));
  CHECK(same_bytes(file("all.h5"), file("zero.h5")));
  good(energy(file("other.h5"), {"--calibrate-from", "5", "--part", "2/2"}));
  good(energy(file("none.h5"), {"--part", "2/2"}));
  for (const char* name : {"other.h5", "none.h5"}) {
    const Outcome outcome = blockgtq({"merge", file("one.h5"), file(name), "-o", file("bad.h5")});
    CHECK(outcome.code == 3);
    CHECK_THAT(outcome.err, ContainsSubstring("calibrate_from"));
  }
  for (const std::vector<std::string>& args :
       {energy(file("bad.h5"), {"--calibrate-from", "64"}),
        {"energy", file("a.h5"), "-o", file("bad.h5"), "-q", "--calibrate-from", "64"}}) {
    const Outcome outcome = blockgtq(args);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, ContainsSubstring("--calibrate-from: 64, in windows of 64 tokens at most 63"));
  }
}

TEST_CASE("merged parts are the whole, to the last bit, in any order") {
  TempFolder dir;
  const std::string whole = dir / "whole.h5", merged = dir / "merged.h5";
  good(on_text({"energy", "--chunk", "64", "-o", whole}));
  std::vector<std::string> parts;
  for (int i = 1; i <= 3; ++i) {  // 10 chunks in 3 parts: 3, 3, 4
    parts.push_back(dir / ("part" + std::to_string(i) + ".h5"));
    good(on_text({"energy", "--chunk", "64", "--part", std::to_string(i) + "/3", "-o", parts.back()}));
  }
  good({"merge", parts[2], parts[0], parts[1], "-o", merged});
  const std::string map = dir / "map.h5", map2 = dir / "map2.h5";
  good({"allocate", whole, "-o", map});
  good({"allocate", merged, "-o", map2});
  CHECK(same_bytes(whole, merged));
  CHECK(same_bytes(map, map2));

  SECTION("a run of which a part is missing is refused by name; halves may be merged first") {
    const auto refused = [&](std::vector<std::string> args, const std::string& says) {
      args.insert(args.end(), {"-o", dir / "bad.h5"});
      const Outcome outcome = blockgtq(args);
      CHECK(outcome.code == 3);
      CHECK(error_lines(outcome) == 1);
      CHECK_THAT(outcome.err, ContainsSubstring(says));
      CHECK_FALSE(std::filesystem::exists(dir / "bad.h5"));
    };
    refused({"merge", parts[0], parts[1]}, "missing: chunks 6 to 9 of 10 (part 3 of 3)");
    refused({"merge", parts[2], parts[1]}, "missing: chunks 0 to 2 of 10 (part 1 of 3)");
    refused({"merge", parts[2], parts[0]},
            "part3.h5: missing between " + parts[0] + " and this: chunks 3 to 5 of 10 (part 2 of 3)");
    refused({"merge", parts[0]}, "missing: chunks 3 to 9 of 10 (parts 2 to 3 of 3)");
    refused({"merge", parts[1]},
            "missing: chunks 0 to 2 of 10 (part 1 of 3), chunks 6 to 9 of 10 (part 3 of 3)");
    refused({"allocate", parts[1]}, "missing: chunks 0 to 2 of 10");
    const std::string two = dir / "two.h5", staged = dir / "staged.h5", mixed = dir / "mixed.h5",
                      half = dir / "half.h5";
    good({"merge", parts[1], parts[0], "--partial", "-o", two});
    refused({"allocate", two}, "missing: chunks 6 to 9 of 10 (part 3 of 3)");
    CHECK_THAT(good({"inspect", two}).out, ContainsSubstring("chunks 6 to 9 of 10 (part 3 of 3)"));
    good({"merge", parts[2], two, "-o", staged});
    CHECK(same_bytes(whole, staged));
    // Cut otherwise: 10 chunks in 5 parts of 2; the last two are the third of three.
    for (const std::string i : {"4", "5"})
      good(on_text({"energy", "--chunk", "64", "--part", i + "/5", "-o", dir / ("fifth" + i + ".h5")}));
    good({"merge", dir / "fifth4.h5", dir / "fifth5.h5", "--partial", "-o", half});
    refused({"merge", half, parts[1]}, "missing: chunks 0 to 2 of 10\n");
    good({"merge", half, two, "-o", mixed});
    CHECK(same_bytes(whole, mixed));
  }
  SECTION("a gap, an overlap and a foreign part are refused") {
    for (const auto& inputs : {std::vector<std::string>{parts[0], parts[2]}, {parts[0], parts[0]}}) {
      std::vector<std::string> args = {"merge", "-o", dir / "bad.h5"};
      args.insert(args.end(), inputs.begin(), inputs.end());
      const Outcome outcome = blockgtq(args);
      CHECK(outcome.code == 3);
      CHECK(error_lines(outcome) == 1);
      CHECK_FALSE(std::filesystem::exists(dir / "bad.h5"));
    }
    good(on_text({"energy", "--chunk", "64", "--part", "2/3", "-o", dir / "foreign.h5"}, "evaluation"));
    const Outcome outcome = blockgtq({"merge", parts[0], dir / "foreign.h5", "-o", dir / "bad.h5"});
    CHECK(outcome.code == 3);
    CHECK_THAT(outcome.err, ContainsSubstring("foreign.h5: statistics of another run than " + parts[0] +
                                              ": corpus_sha256 "));
    // As many chunks, but the last is shorter.
    good(on_text({"energy", "--chunk", "64", "--part", "3/3", "-o", dir / "short.h5"}, "calibration", 630));
    const Outcome shorter = blockgtq({"merge", parts[0], parts[1], dir / "short.h5", "-o", dir / "bad.h5"});
    CHECK(shorter.code == 3);
    CHECK_THAT(shorter.err,
               ContainsSubstring("short.h5") && ContainsSubstring("tokens '630' found, '640' allowed"));
    CHECK_FALSE(std::filesystem::exists(dir / "bad.h5"));
  }
}

TEST_CASE("every key method from one map; whole bits are interpolated") {
  TempFolder dir;
  const std::string
      map = dir / "m.h5",
      all =
          "tq-mse,block-gtq,block-gtq-cb,block-gtq-cb1,klt,tq-mse-cb,kivi,kivi-lagging,kivi-centred,rtn,"
          "turboquant-prod,fp8";
  good(on_text({"calibrate", "--bits", "2.5,3", "-o", map}));
  const auto eval = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"eval-logits", "--map", map, "--json", "-"};
    args.insert(args.end(), more.begin(), more.end());
    return nlohmann::json::parse(good(on_text(args, "evaluation")).out);
  };
  const auto json = eval({"--methods", all});
  CHECK(json.at("summary").size() == 24);
  for (const auto& row : json.at("layers")[0].at("results")) {
    CAPTURE(row.dump());
    CHECK(row.at("mae") > 0.0);
    const auto method = row.at("method").get<std::string>();
    const bool whole = method.find("block-gtq") != 0 && method != "klt" && method != "fp8";
    CHECK(row.value("interpolated", false) == (whole && row.at("bits") == 2.5));
    if (method == "fp8") CHECK(row.at("effective_bits") == 8.0);
    if (method == "kivi" && row.at("bits") == 3.0) CHECK(row.at("effective_bits") == 4.0);
  }
  const auto mae = [](const nlohmann::json& j, const char* method) {
    for (const auto& row : j.at("summary"))
      if (row.at("method") == method && row.at("bits") == 3.0) return row.at("mae").get<double>();
    return -1.0;
  };
  CHECK(mae(json, "block-gtq-cb1") < 0.7 * mae(json, "tq-mse"));
  CHECK(mae(json, "klt") < mae(json, "block-gtq-cb1"));

  const auto published = eval({"--methods", "block-gtq,block-gtq-cb1", "--codebook", "reference"});
  CHECK(published.at("codebook") == "reference");
  CHECK(mae(published, "block-gtq") == mae(json, "block-gtq"));
  CHECK(mae(published, "block-gtq-cb1") != mae(json, "block-gtq-cb1"));
}

TEST_CASE("one or two threads, once or twice: the same bytes") {
  TempFolder dir;
  std::vector<std::string> maps, results;
  for (const std::string threads : {"1", "2", "2"}) {
    const std::string n = std::to_string(maps.size()), map = dir / ("m" + n + ".h5");
    good(on_text({"calibrate", "-t", threads, "--bits", "2,3", "-o", map}));
    maps.push_back(get_file(map));
    results.push_back(
        good(on_text({"eval-logits", "-t", threads, "--map", map, "--json", "-"}, "evaluation")).out);
  }
  const bool same_maps = maps[0] == maps[1] && maps[1] == maps[2];
  const bool same_results = results[0] == results[1] && results[1] == results[2];
  CHECK(same_maps);
  CHECK(same_results);
}

TEST_CASE("eval-logits: model and dump agree, the document keeps its schema") {
  TempFolder dir;
  const std::string map = dir / "m.h5", acts = dir / "a.h5";
  good(on_text({"calibrate", "--bits", "2,3", "-o", map}));
  good(on_text({"dump", "-o", acts}, "evaluation"));
  const auto streamed =
      nlohmann::json::parse(good(on_text({"eval-logits", "--map", map, "--json", "-"}, "evaluation")).out);
  const auto dumped = nlohmann::json::parse(
      good({"eval-logits", "--activations", acts, "--map", map, "--json", "-", "-q"}).out);
  CHECK(streamed == dumped);

  CHECK(streamed.at("schema") == "blockgtq.eval-logits/1");
  CHECK(streamed.at("window") == 1024);
  CHECK(streamed.at("offsets") == 50);
  CHECK(streamed.at("tokens") == 640);
  CHECK(streamed.at("layers").size() == 4);
  for (const auto& layer : streamed.at("layers")) {
    REQUIRE(layer.at("results").size() == 4);
    for (const auto& r : layer.at("results")) {
      CHECK(r.at("mae_per_kv_head").size() == 2);
      CHECK(r.at("mae").get<double>() > 0);
      CHECK(r.at("bytes_per_token").get<double>() > 0);
    }
    // bits cost: the same method is better with one bit more
    CHECK(layer["results"][2]["mae"] < layer["results"][0]["mae"]);
    CHECK(layer["results"][3]["mae"] < layer["results"][1]["mae"]);
  }
  // tq-mse at 3 bits, D = 64, 2 heads: 2 x (24 + 2) bytes a layer, 4 layers
  for (const auto& row : streamed.at("summary"))
    if (row["method"] == "tq-mse" && row["bits"] == 3.0) {
      CHECK(row["bytes_per_token"] == 208.0);
      CHECK(row["effective_bits"] == 3.25);
      CHECK(row["ratio_to_tq_mse"] == 1.0);
    }
}

TEST_CASE("quantize: bytes are what eval-logits says, the codes restore the keys") {
  TempFolder dir;
  const std::string map = dir / "m.h5", acts = dir / "a.h5", packed = dir / "p.h5";
  good(on_text({"calibrate", "-o", map}));
  good(on_text({"dump", "-o", acts}, "evaluation"));
  const auto bytes =
      nlohmann::json::parse(good({"quantize", acts, "--map", map, "-o", packed, "--json", "-", "-q"}).out);
  const auto eval = nlohmann::json::parse(
      good({"eval-logits", "--activations", acts, "--map", map, "--json", "-", "-q"}).out);
  for (size_t l = 0; l < 4; ++l) {
    CHECK(bytes["layers"][l]["bytes_per_token"] == eval["layers"][l]["results"][1]["bytes_per_token"]);
    // 3 bits on average: the Lloyd-Max distortion of a Gaussian is 0.0345; allocation spends unevenly, so
    // allow twice that
    CHECK(bytes["layers"][l]["distortion"].get<double>() < 0.07);
    CHECK(bytes["layers"][l]["distortion"].get<double>() > 0.005);
  }
  CHECK_THAT(good({"inspect", packed}).out, ContainsSubstring("packed keys"));

  // Every method whose codes are one key's each; without --method it is the map's.
  good({"quantize", acts, "--map", map, "-o", dir / "same.h5", "--method", "block-gtq", "-q"});
  CHECK(same_bytes(dir / "same.h5", packed));
  const std::string all =
      "tq-mse,block-gtq-product,block-gtq-centred,block-gtq-cb,block-gtq-cb1,klt,tq-mse-cb,"
      "rtn,turboquant-prod,fp8";
  const auto others = nlohmann::json::parse(
      good({"eval-logits", "--activations", acts, "--map", map, "--methods", all, "--json", "-", "-q"}).out);
  for (const auto& expected : others.at("layers")[0].at("results")) {
    const std::string method = expected.at("method"), file = dir / (method + ".h5");
    CAPTURE(method);
    const auto json = nlohmann::json::parse(
        good({"quantize", acts, "--map", map, "-o", file, "--method", method, "--json", "-", "-q"}).out);
    CHECK(json.at("method") == method);
    CHECK(json["layers"][0]["bytes_per_token"] == expected.at("bytes_per_token"));
    // A code that could not be read back would be as far from the key as another key is.
    CHECK(json["layers"][0]["distortion"].get<double>() < 0.5);
    CHECK_THAT(good({"inspect", file}).out, ContainsSubstring(method));
  }
  for (const std::string method : {"kivi", "magic"}) {
    const Outcome outcome =
        blockgtq({"quantize", acts, "--map", map, "-o", dir / "x.h5", "--method", method});
    CHECK(outcome.code == 2);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(method));
    CHECK_FALSE(std::filesystem::exists(dir / "x.h5"));
  }
}

TEST_CASE("export-bitmap: every form, and the sum of its bits is the budget") {
  TempFolder dir;
  const std::string map = dir / "m.h5";
  good(on_text({"calibrate", "--bits", "2.5,3", "-o", map}));
  for (const std::string form : {"json", "csv", "npy", "safetensors", "png", "svg"}) {
    const std::string file = dir / ("map." + form);
    good({"export-bitmap", map, "--bits", "2.5", "-o", file});
    CHECK(get_file(file).size() > 100);
    const bool same =
        good({"export-bitmap", map, "--bits", "2.5", "--format", form, "-o", "-"}).out == get_file(file);
    CHECK(same);
  }
  const std::string npy = get_file(dir / "map.npy");
  CHECK(npy.substr(1, 5) == "NUMPY");
  int sum = 0;  // (4 layers, 2 heads, 32 blocks) of uint8 at the end
  for (size_t i = npy.size() - 4 * 2 * 32; i < npy.size(); ++i) sum += npy[i];
  CHECK(sum == 4 * 2 * 80);  // 32 blocks x 2.5 bits
  const Outcome ambiguous = blockgtq({"export-bitmap", map, "-o", dir / "x.json"});
  CHECK(ambiguous.code == 2);
  CHECK_FALSE(std::filesystem::exists(dir / "x.json"));
}

TEST_CASE("tokenize and --ids feed the same run") {
  TempFolder dir;
  const std::string ids = dir / "ids.txt";
  put_file(ids, good({"tokenize", "-m", model(kModel), "-f", text("evaluation"), "--tokens", "640"}).out);
  const auto from_text =
      nlohmann::json::parse(good(on_text({"eval-logits", "--json", "-"}, "evaluation")).out);
  const auto from_ids = nlohmann::json::parse(
      good({"eval-logits", "-m", model(kModel), "--ids", ids, "--tokens", "640", "--json", "-", "-q"}).out);
  CHECK(from_text.at("layers") == from_ids.at("layers"));
}

TEST_CASE("inspect knows a model folder and every file of ours") {
  TempFolder dir;
  const auto sheet = nlohmann::json::parse(good({"inspect", model("tiny-glm"), "--json", "-"}).out);
  CHECK(sheet.at("verdict") == "supported");
  CHECK(sheet.at("pairing") == "interleaved");
  CHECK(sheet.at("rotary_dim") == 64);
  CHECK(sheet.at("inv_freq").size() == 32);
  const std::string map = dir / "m.h5";
  good(on_text({"calibrate", "-o", map}));
  const Outcome shown = good({"inspect", map, "--color", "never"});
  CHECK_THAT(shown.out, ContainsSubstring("bit map"));
  CHECK(shown.out.find('\033') == std::string::npos);
  CHECK(good({"inspect", map, "--color", "always"}).out.find('\033') != std::string::npos);
}

}  // namespace blockgtq
