// perplexity --chart: KL against bytes.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/small_panel.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;

const std::string kText = text("evaluation"), kCalibration = text("calibration");

std::vector<std::string> perplexity(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"perplexity", "-m",  model("tiny-llama"), "-f",  kText,
                                   "--tokens",   "200", "--chunk",           "100", "-q"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

struct Point {
  std::string line;
  double bytes, kl;
};

/// The points of a chart, which every mark's tooltip names: "LINE, bytes per token 272: 0.018".
std::vector<Point> points(const std::string& svg, const std::string& x_title = "bytes per token") {
  std::vector<Point> out;
  const std::string begin = "<title>";
  for (size_t at = svg.find(begin); at != std::string::npos; at = svg.find(begin, at + 1)) {
    const std::string tip = svg.substr(at + begin.size(), svg.find("</title>", at) - at - begin.size());
    const size_t x = tip.find(", " + x_title + " "), y = tip.rfind(": ");
    REQUIRE(x != std::string::npos);
    REQUIRE(y != std::string::npos);
    out.push_back(
        {tip.substr(0, x), std::stod(tip.substr(x + x_title.size() + 3)), std::stod(tip.substr(y + 2))});
  }
  return out;
}

const Point* find(const std::vector<Point>& points, const std::string& line, double bytes) {
  for (const Point& p : points)
    if (p.line == line && p.bytes == bytes) return &p;
  return nullptr;
}

}  // namespace

TEST_CASE("perplexity --chart: every cache is a point of its line, at its bytes and its KL") {
  TempFolder dir;
  const std::string svg = dir / "kl.svg";
  const std::vector<std::string> args =
      perplexity({"--k-method", "tq-mse,kivi", "--pairs", "K4,K2,K3", "--code", "scalar,trellis", "--chart",
                  svg, "--json", "-"});
  const Json caches = Json::parse(good(args).out).at("models").at(0).at("caches");
  const std::string first = get_file(svg);
  const std::vector<Point> drawn = points(first);
  CHECK(drawn.size() == caches.size());
  for (const Json& c : caches) {
    const std::string code = c.at("code"),
                      line = c.at("k_method").get<std::string>() + (code == "scalar" ? "" : ", " + code);
    const Point* point = find(drawn, line, c.at("bytes_per_token"));
    INFO(line << " " << c.at("bytes_per_token"));
    REQUIRE(point);
    CHECK(point->kl == c.at("kl_mean").get<double>());
  }
  for (const char* name :
       {">tq-mse</text>", ">tq-mse, trellis</text>", ">kivi</text>", ">lowest KL within these bytes</text>",
        "KL against bytes per token of keys: tiny-llama"})
    CHECK_THAT(first, ContainsSubstring(name));

  // It is not replaced, and then none of the other outputs appears; with --force it is, by the same bytes.
  std::vector<std::string> again = args;
  again.back() = dir / "kl.json";
  put_file(svg, "old");
  const Outcome refused = blockgtq(again);
  CHECK(refused.code == 4);
  CHECK_THAT(refused.err, ContainsSubstring("kl.svg"));
  CHECK(get_file(svg) == "old");
  CHECK(dir.entries() == 1);
  again.insert(again.end(), {"--force", "-t", "1"});
  good(again);
  const bool same = get_file(svg) == first;
  CHECK(same);
}

TEST_CASE("perplexity --chart: keys and values, and positions held exactly, are lines of their own") {
  TempFolder dir;
  const std::string svg = dir / "kl.svg";
  good(perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2,V3,K3V3", "--sink", "4",
                   "--chart", svg}));
  const std::vector<Point> drawn = points(get_file(svg));
  REQUIRE(drawn.size() == 3);
  for (const char* line : {"tq-mse / exact, sink 4", "exact / tq-mse, sink 4", "tq-mse / tq-mse, sink 4"}) {
    INFO(line);
    CHECK(std::count_if(drawn.begin(), drawn.end(), [&](const Point& p) { return p.line == line; }) == 1);
  }
}

TEST_CASE("perplexity --chart: a KL of 0 is left out, with a warning") {
  TempFolder dir;
  const std::string svg = dir / "kl.svg";
  const Outcome outcome =
      good(perplexity({"--k-method", "tq-mse", "--pairs", "K2,K3", "--sink", "100", "--chart", svg}));
  CHECK(lines_of(outcome, "warning:") == 1);
  CHECK_THAT(outcome.err,
             ContainsSubstring("without K2 tq-mse / exact, sink 100; K3 tq-mse / exact, sink 100"));
  CHECK(points(get_file(svg)).empty());
  CHECK_THAT(get_file(svg), ContainsSubstring("no data"));
}

TEST_CASE("perplexity --chart: a panel is drawn by the geometric mean") {
  TempFolder dir;
  const std::string path = small_panel(dir, {"tiny-llama3", "tiny-deepseek2", "tiny-qwen2"}),
                    svg = dir / "kl.svg";
  const Json models =
      Json::parse(good({"perplexity", "--panel", path, "--k-method", "tq-mse", "--v-method", "tq-mse",
                        "--pairs", "K3V3,K2V2,K2", "--tokens", "200", "--chart", svg, "--json", "-", "-q"})
                      .out)
          .at("models");
  CHECK_THAT(get_file(svg), ContainsSubstring("geometric mean over 2 models"));  // MLA caches no values
  const std::vector<Point> drawn = points(get_file(svg), "bytes per token, geometric mean");
  REQUIRE(drawn.size() == 3);
  for (const size_t c : {0, 1, 2}) {
    auto mean = [&](const char* key) {
      return std::sqrt(models[0]["caches"][c].at(key).get<double>() *
                       models[2]["caches"][c].at(key).get<double>());
    };
    INFO(c);
    CHECK(std::count_if(drawn.begin(), drawn.end(), [&](const Point& p) {  // a few roundings
            return p.line == (c < 2 ? "tq-mse / tq-mse" : "tq-mse / exact") &&
                   p.bytes == Approx(mean("bytes_per_token")).epsilon(1e-12) &&
                   p.kl == Approx(mean("kl_mean")).epsilon(1e-12);
          }) == 1);
  }
}

TEST_CASE("perplexity --chart appears with the other files or not at all") {
  TempFolder dir;
  // While the command waits for its text, a folder takes the name of the last file.
  const Outcome o = shell("cd '" + dir.path().string() + "'; mkfifo text; \"$BLOCKGTQ\" perplexity -q -m '" +
                          model("tiny-llama") +
                          "' -f text --tokens 100 --k-method tq-mse --pairs K2 --chart kl.svg --csv kl.csv & "
                          "until [ -e .kl.svg.*.tmp ]; do sleep 0.01; done; mkdir kl.csv; cat '" +
                          kText + "' >text; wait $!");
  CAPTURE(o.err);
  CHECK(o.code == 4);
  CHECK(o.out.empty());
  CHECK(dir.entries() == 2);  // the pipe and the folder
}

TEST_CASE("perplexity --chart: one line where there is nothing to draw") {
  TempFolder dir;
  const std::string svg = dir / "kl.svg";
  struct Mistake {
    std::vector<std::string> args;
    std::string says;
  };
  const std::vector<Mistake> mistakes = {
      {perplexity({"--chart", svg}), "no cache to draw: give --k-method or --v-method"},
      {perplexity({"--k-method", "tq-mse", "--pairs", "K2", "--chart", "-"}), "--chart: '-'"},
      {perplexity({"--k-method", "tq-mse", "--v-method", "tq-mse", "--bits-kv", "3", "--calibration",
                   kCalibration, "--chart", svg}),
       "--chart excludes --bits-kv"},
  };
  for (const Mistake& m : mistakes) {
    const Outcome outcome = blockgtq(m.args);
    CAPTURE(outcome.err, m.says);
    CHECK(outcome.code == 2);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(m.says));
    CHECK(outcome.out.empty());
    CHECK(dir.entries() == 0);
  }
}

}  // namespace blockgtq
