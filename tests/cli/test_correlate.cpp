// correlate: documents of eval-logits on one side, of perplexity on the other.
#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace blockgtq {
namespace {

using nlohmann::json;

struct Entry {
  std::string method;
  double bits, mae, kl_metric, quality;
};

/// Three methods at two budgets: the error orders them wrongly in one place, the divergence nowhere.
const std::vector<Entry> kEntries = {{"tq-mse", 2, 4.0, 0.08, 0.20},     {"block-gtq", 2, 3.0, 0.05, 0.15},
                                     {"rtn", 2, 3.5, 0.09, 0.30},        {"tq-mse", 3, 2.0, 0.020, 0.05},
                                     {"block-gtq", 3, 1.5, 0.012, 0.04}, {"rtn", 3, 2.5, 0.030, 0.10}};

json evaluation(const std::string& model) {
  json doc = {{"schema", "blockgtq.eval-logits/1"}, {"model", model}, {"summary", json::array()}};
  for (const Entry& e : kEntries)
    doc["summary"].push_back({{"method", e.method},
                              {"bits", e.bits},
                              {"mae", e.mae},
                              {"bytes_per_token", 100 * e.bits},
                              {"metrics", {{"mae", {{"value", e.mae}}}, {"kl", {{"value", e.kl_metric}}}}}});
  return doc;
}

json quality(const std::vector<std::string>& models) {
  json doc = {{"schema", "blockgtq.perplexity/1"}, {"models", json::array()}};
  for (const std::string& name : models) {
    json caches = json::array();
    for (const Entry& e : kEntries)
      for (const char* values : {"exact", "tq-mse"})  // quantized values do not count here
        caches.push_back({{"k_method", e.method},
                          {"k_bits", e.bits},
                          {"v_method", values},
                          {"v_bits", 0.0},
                          {"kl_mean", values == std::string("exact") ? e.quality : 1.0}});
    caches.push_back({{"k_method", "exact"}, {"k_bits", 0.0}, {"v_method", "exact"}, {"kl_mean", 0.0}});
    doc["models"].push_back({{"name", name}, {"status", "ok"}, {"caches", caches}});
  }
  doc["models"].push_back({{"name", "broken"}, {"status", "failed"}, {"error", "it broke"}});
  return doc;
}

std::string put(const TempFolder& dir, const std::string& name, const json& doc) {
  const std::string file = dir / name;
  put_file(file, doc.dump());
  return file;
}

}  // namespace

TEST_CASE("correlate: per model, over models, at one budget") {
  TempFolder dir;
  const std::string one = put(dir, "one.json", evaluation("one")),
                    two = put(dir, "two.json", evaluation("two")),
                    with = put(dir, "p.json", quality({"one", "two", "unseen"}));
  const std::string csv = dir / "c.csv", markdown = dir / "c.md";
  const json result = json::parse(
      good({"correlate", one, two, "--with", with, "--json", "-", "--csv", csv, "--md", markdown}).out);
  CHECK(result.at("schema") == "blockgtq.correlate/1");
  const json& rows = result.at("rows");
  REQUIRE(rows.size() == 6);
  const std::vector<std::string> of = {"one",
                                       "two",
                                       "mean of models",
                                       "pooled",
                                       "methods at 2 bits, mean of models",
                                       "methods at 3 bits, mean of models"};
  const std::vector<int> n = {6, 6, 12, 12, 6, 6};
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i].at("of") == of[i]);
    CHECK(rows[i].at("configurations") == n[i]);
    CHECK(rows[i]["spearman"].at("kl").get<double>() == Approx(1));
  }
  // mae orders the six as 6 4 5 2 1 3, KL as 5 4 6 2 1 3: 1 - 6 (1 + 1) / (6 * 35); at 2 bits 3 1 2 against
  // 2 1 3: 1 - 6 * 2 / (3 * 8)
  CHECK(rows[0]["spearman"]["mae"].get<double>() == Approx(1 - 12.0 / 210));
  CHECK(rows[4]["spearman"]["mae"].get<double>() == Approx(0.5));
  CHECK(rows[4]["spearman"]["bytes"].is_null());  // all alike
  CHECK_THAT(get_file(csv), ContainsSubstring("pooled,12,"));
  CHECK_THAT(get_file(markdown), ContainsSubstring("| pooled"));
  CHECK_THAT(good({"correlate", one, "--with", with}).out, ContainsSubstring("kl_mean"));
}

TEST_CASE("correlate: a panel on one side, metrics that some models lack") {
  TempFolder dir;
  json lacking = evaluation("two");
  for (json& row : lacking["summary"]) row.erase("metrics");
  json panel = {{"schema", "blockgtq.panel/1"}, {"models", json::array()}};
  panel["models"].push_back({{"name", "one"}, {"status", "ok"}, {"eval", evaluation("folder-name")}});
  panel["models"].push_back({{"name", "two"}, {"status", "ok"}, {"eval", lacking}});
  panel["models"].push_back({{"name", "three"}, {"status", "failed"}, {"error", "it broke"}});
  const json result = json::parse(good({"correlate", put(dir, "panel.json", panel), "--with",
                                        put(dir, "p.json", quality({"one", "two"})), "--json", "-"})
                                      .out);
  CHECK(result["rows"][1]["spearman"].at("kl").is_null());
  CHECK(result["rows"][1]["spearman"].at("mae").is_number());
  CHECK(result["rows"][2]["spearman"].at("kl").get<double>() == Approx(1));
}

TEST_CASE("correlate: only what holds the same positions exactly is compared") {
  TempFolder dir;
  json held = evaluation("one"), both = quality({"one"});
  held["sink"] = 4;
  held["recent"] = 64;
  json caches = both["models"][0]["caches"];
  for (json& cache : caches) {
    cache["sink"] = 4;
    cache["recent"] = 64;
    both["models"][0]["caches"].push_back(cache);
  }
  const std::string with = put(dir, "p.json", both), held_file = put(dir, "h.json", held);
  const json rows = json::parse(good({"correlate", put(dir, "e.json", evaluation("one")), held_file, "--with",
                                      with, "--json", "-"})
                                    .out)
                        .at("rows");
  REQUIRE(rows.size() == 5);
  CHECK(rows[0].at("configurations") == 12);
  CHECK(rows[1].at("of") == "methods at 2 bits, mean of models");
  CHECK(rows[2].at("of") == "methods at 2 bits, sink 4, recent 64, mean of models");
  CHECK(rows[2].at("configurations") == 3);
  const Outcome none = blockgtq({"correlate", held_file, "--with", put(dir, "q.json", quality({"one"}))});
  CHECK(none.code == 3);
  CHECK_THAT(none.err, ContainsSubstring("exact positions"));
}

TEST_CASE("correlate: what does not fit is said in one line") {
  TempFolder dir;
  const std::string good_eval = put(dir, "e.json", evaluation("one")),
                    good_quality = put(dir, "p.json", quality({"one"})),
                    foreign = put(dir, "f.json", quality({"other"}));
  json torn = evaluation("one");
  torn["summary"][0].erase("bits");
  const std::string torn_eval = put(dir, "t.json", torn);
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{good_eval}, 2},                                     // --with is missing
      {{good_eval, "--with", foreign}, 3},                  // nothing in common
      {{good_quality, "--with", good_eval}, 3},             // the wrong way round
      {{good_eval, good_eval, "--with", good_quality}, 3},  // twice
      {{torn_eval, "--with", good_quality}, 3},             // not a whole document
      {{good_eval, "--with", dir / "absent.json"}, 3},      //
      {{good_eval, "--with", good_quality, "--against", "x"}, 2}};
  for (const auto& [args, code] : cases) {
    std::vector<std::string> all = {"correlate"};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = blockgtq(all);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
  }
}

}  // namespace blockgtq
