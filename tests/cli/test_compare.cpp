// compare: maps, and results of one kind, side by side.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using nlohmann::json;

std::string put(const TempFolder& dir, const std::string& name, const json& doc) {
  const std::string file = dir / name;
  put_file(file, doc.dump());
  return file;
}

/// eval-logits of two layers: MAE `mae` and twice that.
json evaluation(const std::string& model, double mae) {
  json doc = {{"schema", "blockgtq.eval-logits/1"}, {"model", model}, {"tokens", 512}};
  for (int l = 0; l < 4; ++l)
    doc["layers"].push_back(
        {{"layer", l}, {"results", {{{"method", "tq-mse"}, {"bits", 3.0}, {"mae", (1 + l) * mae}}}}});
  doc["summary"].push_back(
      {{"method", "tq-mse"},
       {"bits", 3.0},
       {"mae", 2.5 * mae},
       {"bytes_per_token", 100.0},
       {"metrics", {{"kl", {{"value", mae / 10}, {"low", mae / 11}, {"high", mae / 9}}}}}});
  return doc;
}

json quality(double kl) {
  const json cache = {{"pair", "K2"},
                      {"k_method", "tq-mse"},
                      {"v_method", "exact"},
                      {"code", "scalar"},
                      {"sink", 0},
                      {"recent", 0},
                      {"bytes_per_token", 1620.0},
                      {"perplexity", 80.0},
                      {"perplexity_error", 4.0},
                      {"kl_mean", kl},
                      {"kl_error", kl / 50},
                      {"kl_median", kl / 2},
                      {"kl_p99", 4 * kl},
                      {"same_top", 0.5}};
  return {{"schema", "blockgtq.perplexity/1"},
          {"models",
           {{{"name", "m"},
             {"status", "ok"},
             {"tokens", 4096},
             {"exact", {{"perplexity", 31.6}, {"perplexity_error", 2.0}}},
             {"caches", {cache}}},
            {{"name", "broken"}, {"status", "failed"}, {"error", "it broke"}}}}};
}

json decode(double ms, int context) {
  return {{"schema", "blockgtq.bench-decode/1"},
          {"device", "a GPU"},
          {"rows",
           {{{"kv", "K3V3"},
             {"batch", 1},
             {"context", context},
             {"milliseconds", ms},
             {"milliseconds_p5", 0.98 * ms},
             {"milliseconds_p95", 1.02 * ms},
             {"peak_bytes", 1000},
             {"longest_context", 4096}}}}};
}

json row_of(const json& doc, const std::string& metric) {
  for (const json& row : doc.at("rows"))
    if (row.at("metric") == metric) return row;
  FAIL("no row of " + metric);
  return {};
}

}  // namespace

TEST_CASE("compare: results of eval-logits, with intervals over layers and from intervals") {
  TempFolder dir;
  const std::string a = put(dir, "a.json", evaluation("one", 1.0)),
                    b = put(dir, "b.json", evaluation("one", 1.1));
  const std::string csv = dir / "c.csv";
  const json doc = json::parse(good({"compare", a, b, "--json", "-", "--csv", csv}).out);
  CHECK(doc.at("schema") == "blockgtq.compare/1");
  CHECK(doc.at("of") == "blockgtq.eval-logits/1");
  const json mae = row_of(doc, "mae");
  CHECK(mae.at("ratio").get<double>() == Approx(1.1));
  CHECK(mae.at("interval")[0].get<double>() == Approx(1.1));  // every layer is 1.1 times as bad
  const json kl = row_of(doc, "kl");
  CHECK(kl.at("ratio").get<double>() == Approx(1.1));
  // log half width of each log(11 / 9) / 2, as if independent
  CHECK(kl.at("interval")[1].get<double>() ==
        Approx(1.1 * std::exp(std::sqrt(2.0) * std::log(11.0 / 9) / 2)));
  CHECK_THAT(get_file(csv), ContainsSubstring("one,3,tq-mse,bytes_per_token,100,100,1,"));
  const std::string text = good({"compare", a, b}).out;
  CHECK_THAT(text, ContainsSubstring("equal in all rows: bytes_per_token"));
  CHECK_THAT(text, ContainsSubstring("1.100"));
  CHECK_THAT(good({"compare", a, a}).out, ContainsSubstring("equal in all rows: bytes_per_token, kl, mae"));
}

TEST_CASE("compare: one model under two names, and runs that differ") {
  TempFolder dir;
  json other = evaluation("two", 2.0);
  other["tokens"] = 1024;
  const std::string text =
      good({"compare", put(dir, "a.json", evaluation("one", 1.0)), put(dir, "b.json", other)}).out;
  CHECK_THAT(text, ContainsSubstring("2.000"));
  CHECK_THAT(text, ContainsSubstring("tokens: 512 and 1024"));
  CHECK_THAT(text, ContainsSubstring("model: one and two"));
}

TEST_CASE("compare: panels by the geometric mean over models") {
  TempFolder dir;
  const auto panel = [&](const std::string& name, double second, int n) {
    json doc = {{"schema", "blockgtq.panel/1"}, {"models", json::array()}};
    for (int i = 0; i < n; ++i)
      doc["models"].push_back({{"name", "m" + std::to_string(i)},
                               {"status", "ok"},
                               {"eval", evaluation("folder", i == 1 ? second : 1.0)}});
    doc["models"].push_back({{"name", "broken"}, {"status", "failed"}, {"error", "it broke"}});
    return put(dir, name, doc);
  };
  const std::string a = panel("a.json", 1, 4), b = panel("b.json", 4, 3);
  const json doc = json::parse(good({"compare", a, b, "--json", "-"}).out);
  REQUIRE(doc.at("means").size() == 3);
  const json& mean = doc["means"][0];
  CHECK(mean.at("metric") == "mae");
  CHECK(mean.at("models") == 3);
  CHECK(mean.at("ratio").get<double>() == Approx(std::cbrt(4.0)));
  CHECK(mean.at("most").get<double>() == Approx(4));
  CHECK(mean.at("interval")[0].get<double>() == Approx(1));
  CHECK(doc.at("only_a").size() == 3);
  CHECK_THAT(good({"compare", a, b}).out, ContainsSubstring("only in A: m3 3 tq-mse mae"));
  CHECK(blockgtq({"compare", a, b, "--fail-if", "missing>0"}).code == 7);
}

TEST_CASE("compare: perplexity and bench, and gates on both") {
  TempFolder dir;
  const std::string a = put(dir, "a.json", quality(0.1)), b = put(dir, "b.json", quality(0.12));
  const json doc = json::parse(good({"compare", a, b, "--json", "-"}).out);
  const json kl = row_of(doc, "kl_mean");
  CHECK(kl.at("ratio").get<double>() == Approx(1.2));
  CHECK(kl.at("interval")[0].get<double>() ==
        Approx(1.2 * std::exp(-std::sqrt(2.0) * std::atanh(1.959964 / 50))));
  CHECK(!row_of(doc, "kl_p99").contains("interval"));
  CHECK(good({"compare", a, b, "--fail-if", "kl_mean>1.3", "--fail-if", "same_top<0.9"}).code == 0);
  const Outcome worse = blockgtq({"compare", a, b, "--fail-if", "kl_mean>1.1"});
  CHECK(worse.code == 7);
  CHECK_THAT(worse.err, ContainsSubstring("m K2 tq-mse exact scalar 0 0: kl_mean 1.2"));
  CHECK_THAT(worse.out, ContainsSubstring("kl_mean"));  // the table is there all the same
  CHECK(blockgtq({"compare", a, b, "--fail-if", "kl_mean.low>1.1"}).code == 7);
  CHECK(good({"compare", a, b, "--fail-if", "kl_mean.low>1.15"}).code == 0);

  const std::string fast = put(dir, "f.json", decode(2.0, 4096)),
                    slow = put(dir, "s.json", decode(2.1, 4096));
  CHECK(blockgtq({"compare", fast, slow, "--fail-if", "milliseconds>1.04"}).code == 7);
  CHECK(good({"compare", fast, slow, "--fail-if", "milliseconds.low>1.04"}).code == 0);
  const json phases = {{"schema", "blockgtq.bench-diagnostics/1"}, {"milliseconds", {{"total", 4.0}}}};
  CHECK(json::parse(
            good({"compare", put(dir, "p.json", phases), put(dir, "q.json", phases), "--json", "-"}).out)
            .at("rows")[0]
            .at("ratio") == 1);
}

TEST_CASE("compare: what does not fit is said in one line") {
  TempFolder dir;
  const std::string eval = put(dir, "e.json", evaluation("one", 1)), ppl = put(dir, "p.json", quality(0.1)),
                    bench = put(dir, "b.json", decode(2, 4096)), longer = put(dir, "l.json", decode(2, 8192));
  json torn = evaluation("one", 1);
  torn["summary"][0].erase("bits");
  json twice = evaluation("one", 1);
  twice["summary"].push_back(twice["summary"][0]);
  const std::string map = dir / "map.h5";
  good({"calibrate", "-m", model("tiny-llama"), "-f", text("calibration"), "--tokens", "64", "--chunk", "64",
        "--bits", "2", "-o", map});
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{eval}, 2},
      {{eval, ppl}, 3},
      {{bench, longer}, 3},  // no row in common
      {{eval, put(dir, "t.json", torn)}, 3},
      {{put(dir, "w.json", twice), eval}, 3},
      {{eval, dir / "absent.json"}, 3},
      {{put(dir, "s.json", {{"schema", "blockgtq.generate/1"}}), eval}, 3},
      {{eval, map}, 3},
      {{eval, eval, "--fail-if", "mae"}, 2},
      {{eval, eval, "--fail-if", ">1"}, 2},
      {{eval, eval, "--fail-if", "kl_mean>1"}, 2},  // eval-logits has none
      {{map, map, "--fail-if", "mae>1"}, 2}};
  for (const auto& [args, code] : cases) {
    std::vector<std::string> all = {"compare"};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = blockgtq(all);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
  }
}

TEST_CASE("compare: two maps") {
  TempFolder dir;
  const auto calibrate = [&](const std::string& file, const std::string& tokens) {
    good({"calibrate", "-m", model("tiny-qwen2"), "-f", text("calibration"), "--tokens", tokens, "--chunk",
          "64", "--bits", "2,3", "-o", dir / file});
  };
  calibrate("a.h5", "64");
  calibrate("b.h5", "256");
  const json same = json::parse(good({"compare", dir / "a.h5", dir / "a.h5", "--json", "-"}).out);
  CHECK(same.at("of") == "blockgtq.map");
  for (const json& array : same.at("arrays")) {
    CHECK(array.at("changed") == 0);
    CHECK(array.at("error").at("ratio") == 1);
  }
  const std::string csv = dir / "c.csv";
  const json doc =
      json::parse(good({"compare", dir / "a.h5", dir / "b.h5", "--json", "-", "--csv", csv}).out);
  const json& bits = doc.at("arrays")[0];
  CHECK(bits.at("array") == "bits");
  CHECK(bits.at("changed").get<double>() > 0);
  // A's bits are the best for A's energies
  CHECK(bits.at("error").at("ratio").get<double>() >= 1);
  CHECK(bits.at("changed_of_layer").size() == 6);
  CHECK_THAT(get_file(csv), ContainsSubstring("bits,array,layer,changed"));
  const Outcome text = good({"compare", dir / "a.h5", dir / "b.h5"});
  CHECK_THAT(text.out, ContainsSubstring("calibration_tokens: 64 and 256"));
  CHECK(blockgtq({"compare", dir / "a.h5", dir / "b.h5", "--fail-if", "changed>0"}).code == 7);
  CHECK(blockgtq({"compare", dir / "a.h5", dir / "a.h5", "--fail-if", "changed>0"}).code == 0);
}

}  // namespace blockgtq
