#include <cmath>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "markup.h"
#include "report/chart.h"
#include "report/panel_report.h"
#include "report/panel_view.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("what the panel says over its models") {
  const Json panel = sample_panel(3);
  const PanelView view(panel);
  CHECK(view.budgets == std::vector<double>{2, 3});
  CHECK(view.methods == std::vector<std::string>{"tq-mse", "block-gtq"});
  CHECK(view.n_ok == 3);
  const PanelMean mean = view.mean(0, 1);
  CHECK(mean.ratio == Approx(0.95));
  CHECK(mean.wins == 12);
  CHECK(mean.layers == 15);
  CHECK(mean.models == 3);
  CHECK(mean.equal_bytes_ratio == Approx(0.95 * std::exp2(0.25)));
  CHECK(view.mean(1, 1).equal_bytes_ratio == Approx(0.95 * std::exp2(0.25)));
  CHECK(mean.worst_equal_bytes_ratio == Approx(mean.equal_bytes_ratio));  // the models are alike
  CHECK(view.mean(1, 0).ratio == Approx(1));
}

TEST_CASE("Markdown: with three methods or more, one table of all of them") {
  Json panel = sample_panel(2);
  CHECK_THAT(panel_markdown(panel), !ContainsSubstring("## Methods"));
  // a third method, which has half the error of tq-mse at its bytes on one model and a quarter on the other
  double factor = 0.5;
  for (Json& model : panel["models"]) {
    if (model["status"] != "ok") continue;
    Json more = Json::array();
    for (Json row : model["eval"]["summary"]) {
      more.push_back(row);
      if (row["method"] != "tq-mse") continue;
      row["method"] = "third";
      row["mae"] = factor * row["mae"].get<double>();
      row["ratio_to_tq_mse"] = row["ratio_at_equal_bytes"] = factor;
      more.push_back(row);
    }
    model["eval"]["summary"] = more;
    factor /= 2;
  }
  const PanelView view(panel);
  CHECK(view.mean(0, 1).equal_bytes_ratio == Approx(std::sqrt(0.125)));
  CHECK(view.mean(0, 1).worst_equal_bytes_ratio == Approx(0.5));
  const std::string text = panel_markdown(panel);
  CHECK_THAT(text, ContainsSubstring("## Methods\n"));
  CHECK_THAT(text, ContainsSubstring("| third "));
  CHECK_THAT(text, ContainsSubstring("0.354 |          0.354 |       0.500 |"));
}

TEST_CASE("Markdown: a table per budget with sizes, the mean, the failed model") {
  const std::string text = panel_markdown(sample_panel(2));
  CHECK_THAT(text, ContainsSubstring("## 2 bits\n"));
  CHECK_THAT(text, ContainsSubstring("## 3 bits\n"));
  CHECK_THAT(text, ContainsSubstring(" TQ-MSE | Block-GTQ | reduction | at equal bytes |"));
  CHECK_THAT(text, ContainsSubstring("| model-0 "));
  // 0.95 of 6; sizes 2.125 and 2.375 bits of 2 x 128 coordinates in 5 layers
  CHECK_THAT(
      text,
      ContainsSubstring(
          "|   6.00 |      5.70 |     5.0 % |        -13.0 % |  4/5 |    2.13 / 2.38 |       340 / 380 |"));
  CHECK_THAT(text, ContainsSubstring("|   1.00 |     0.950 |     5.0 % |        -13.0 % | 8/10 |"));
  CHECK_THAT(text, ContainsSubstring("a\\<\\&\">'\\|,b (failed)"));
  CHECK_THAT(text, ContainsSubstring("model_type: \\<none>, \"llama\" wanted"));
  CHECK_THAT(text, ContainsSubstring("    blockgtq panel data/panel.json -o DIR\n"));
  CHECK_THAT(text, ContainsSubstring("evaluation.txt"));
}

TEST_CASE("CSV: a row per model, budget, method and layer, and one for the mean") {
  const std::string csv = panel_csv(sample_panel(2));
  CHECK(count(csv, "\r\n") == 1 + 2 * 2 * 2 * (5 + 1) + 1);
  CHECK_THAT(csv, ContainsSubstring("model,bits,method,layer,mae,effective_bits,bytes_per_token,error\r\n"));
  CHECK_THAT(csv, ContainsSubstring("model-1,2,tq-mse,0,4,2.125,68,\r\n"));
  CHECK_THAT(csv, ContainsSubstring("model-1,3,tq-mse,mean,6,3.125,100,\r\n"));
  CHECK_THAT(csv,
             ContainsSubstring(
                 "\"a<&\"\">'|,b\",,,,,,,\"config.json: model_type: <none>, \"\"llama\"\" wanted\"\r\n"));
}

TEST_CASE("the page is well-formed, self-contained and complete") {
  const Json panel = sample_panel(3);
  const std::string html = panel_html(panel);
  std::string text;
  CHECK(markup_error(html, &text) == "");
  CHECK(html.find(kNasty) == std::string::npos);
  CHECK_THAT(html, ContainsSubstring(escape(kNasty)));
  for (const char* outside : {"<link", "<img", "src=", "url(", "@import", "href=\"h"})
    CHECK(html.find(outside) == std::string::npos);
  // error against bytes; of every model errors of layers, two fingerprints, energy and bits of one budget
  CHECK(count(html, "<svg ") == 1 + 3 * 5);
  CHECK(count(html, "<article ") == 4);
  // the methods; six quantities at two budgets; layers and norms of every model
  CHECK(count(html, "<table class=\"sort\">") == 1 + 6 * 2 + 3 * 2);
  CHECK(count(html, "<h2") == 3);
  CHECK_THAT(html, ContainsSubstring("prefers-color-scheme:dark"));
  CHECK_THAT(html, ContainsSubstring("<meta charset=\"utf-8\"/>"));
  for (const char* part :
       {"qwen2 · 5 layers · 4 query and 2 KV heads · head dimension 128, 64 rotary, half pairing · RoPE "
        "default theta 10000",
        "2048 tokens in chunks of 256, 50 offsets within ±1024, cpu", "failed: config.json", "effective bits",
        "bytes/token", "5.0 % less error", "13.0 % more error",
        "Keys are up to 20.0 times as long as values in "
        "layers 2, 3, 4",
        "Up to 60.0 % of the energy of keys is that of their mean in layer 4",
        "calibration.txt &amp; evaluation.txt", "blockgtq panel data/panel.json -o DIR", "blockgtq 0.1.0"})
    CHECK_THAT(text, ContainsSubstring(part));
  CHECK(panel_html(panel) == html);
}

TEST_CASE("every number of a table has its exact value as a tooltip") {
  Json panel = sample_panel(1);
  panel["models"][0]["eval"]["summary"][0]["mae"] = 6.123456789012345;
  CHECK_THAT(panel_html(panel), ContainsSubstring("title=\"6.123456789012345\">6.12</td>"));
}

TEST_CASE("the means over the models stand in the JSON") {
  const Json panel = sample_panel(2), rows = panel_summary(panel);
  REQUIRE(rows.size() == 4);
  const Json& row = rows[1];
  CHECK(row.at("method") == "block-gtq");
  CHECK(row.at("bits") == 2);
  CHECK(row.at("models") == 2);
  CHECK(row.at("ratio_to_tq_mse").get<double>() == Approx(0.95));
  CHECK(row.at("ratio_at_equal_bytes").get<double>() == Approx(0.95 * std::exp2(0.25)));
  CHECK(row.at("mae").get<double>() == Approx(0.95 * std::sqrt(6.0 * 12)));
  CHECK(row.at("bytes_per_token").get<double>() == Approx(5 * 2 * 128 * 2.375 / 8));
  CHECK(rows[0].at("ratio_at_equal_bytes").is_null());
}

TEST_CASE("the page of eval-logits: of one model, with a map or without") {
  Json eval = sample_panel(1)["models"][0]["eval"];
  eval["model"] = kNasty;
  eval["provenance"] = {{"model", kNasty}};
  for (Json& layer : eval["layers"]) layer["sink_attention"] = layer.at("layer") == 1 ? 0.75 : 0.25;
  const BitMap map = sample_map(5, 2, 16, 16);
  std::string text;
  const std::string html = eval_html({eval, &map, "<p>more</p>", "blockgtq eval-logits -m 'a b'", "0.1.0"});
  CHECK(markup_error(html, &text) == "");
  CHECK(html.find(kNasty) == std::string::npos);
  for (const char* part :
       {"The first positions take up to 75.0 % of the attention of later queries in layer 1:", "more",
        "blockgtq eval-logits -m &#39;a b&#39;", "Energy of blocks"})
    CHECK_THAT(text, ContainsSubstring(part));
  const std::string bare = eval_html({eval, nullptr, "", "blockgtq eval-logits", "0.1.0"});
  CHECK(markup_error(bare) == "");
  CHECK(bare.find("Energy of blocks") == std::string::npos);
}

TEST_CASE("more methods, fractional budgets, no measured ratio") {
  Json panel = sample_panel(2);
  for (Json& model : panel["models"]) {
    if (model.at("status") != "ok") continue;
    for (Json& s : model["eval"]["summary"])
      if (s.at("bits") == 3) s["bits"] = 2.5;
    Json extra = model["eval"]["summary"][1];
    extra["method"] = "new<method>";
    extra["ratio_to_tq_mse"] = nullptr;
    model["eval"]["summary"].push_back(extra);
    extra["method"] = "fourth";
    model["eval"]["summary"].push_back(extra);
    for (Json& layer : model["eval"]["layers"])
      for (Json& r : layer["results"])
        if (r.at("bits") == 3) {
          r["bits"] = 2.5;
          if (r.at("method") == "tq-mse") r["interpolated"] = true;
        }
  }
  const std::string html = panel_html(panel), markdown = panel_markdown(panel);
  CHECK(markup_error(html) == "");
  CHECK_THAT(html, ContainsSubstring("2.5 bits"));
  // eight lines are too many for one chart: one for each budget, beside two fingerprints and two heat maps
  CHECK(count(html, "<svg ") == 2 * (2 + 2 + 2));
  CHECK_THAT(html, ContainsSubstring("new&lt;method&gt;"));
  CHECK_THAT(html, ContainsSubstring("3.00*"));
  CHECK_THAT(markdown, ContainsSubstring("## 2.5 bits"));
  CHECK_THAT(markdown, ContainsSubstring("3.00\\*"));
  CHECK_THAT(markdown, ContainsSubstring("Block-GTQ reduction"));
  CHECK(html.find(">nan") == std::string::npos);
  CHECK(markdown.find(" nan") == std::string::npos);
}

TEST_CASE("without the baseline there is nothing to compare with") {
  Json panel = sample_panel(1);
  Json& eval = panel["models"][0]["eval"];
  for (Json* rows : {&eval["summary"], &eval["layers"][0]["results"]})
    for (auto it = rows->begin(); it != rows->end();)
      it = it->at("method") == "tq-mse" ? rows->erase(it) : it + 1;
  for (Json& s : eval["summary"]) s["ratio_to_tq_mse"] = s["ratio_at_equal_bytes"] = nullptr;
  const std::string html = panel_html(panel), markdown = panel_markdown(panel);
  CHECK(markup_error(html) == "");
  CHECK(html.find("less error") == std::string::npos);
  CHECK(html.find("class=\"tile\"") == std::string::npos);
  CHECK(markdown.find("reduction") == std::string::npos);
  CHECK_THAT(markdown, ContainsSubstring("5.70"));
}

TEST_CASE("one budget cannot be compared at equal bytes; evaluations that differ stand at each model") {
  Json panel = sample_panel(2);
  for (Json& model : panel["models"])
    if (model.at("status") == "ok") {
      Json& rows = model["eval"]["summary"];
      rows = Json::array({rows[0], rows[1]});
      rows[1]["ratio_at_equal_bytes"] = nullptr;
    }
  CHECK(panel_markdown(panel).find("equal bytes") == std::string::npos);
  CHECK(panel_html(panel).find("equal bytes") == std::string::npos);
  panel["models"][1]["eval"]["chunk"] = 0;
  CHECK(count(panel_html(panel), "2048 tokens in one window") == 1);
}

TEST_CASE("a panel whose models all failed, and an empty one") {
  {
    Json panel = sample_panel(0);
    const std::string html = panel_html(panel), markdown = panel_markdown(panel);
    CHECK(markup_error(html) == "");
    CHECK_THAT(html, ContainsSubstring("1 of 1 model failed"));
    CHECK_THAT(markdown, ContainsSubstring("config.json: model_type"));
    panel["models"] = Json::array();
    CHECK(markup_error(panel_html(panel)) == "");
    CHECK(panel_csv(panel) == "model,bits,method,layer,mae,effective_bits,bytes_per_token,error\r\n");
  }
}

TEST_CASE("a missing key is a defect") {
  Json panel = sample_panel(1);
  panel["models"][0]["eval"].erase("summary");
  CHECK_THROWS(panel_html(panel));
  CHECK_THROWS(panel_markdown(panel));
  CHECK_THROWS(panel_csv(panel));
}
