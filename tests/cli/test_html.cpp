// --html: the result of a command as one page. How pages are drawn is tested beside lib/report.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/small_panel.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;
using Args = std::vector<std::string>;

const std::string kTasks = BLOCKGTQ_SOURCE_DIR "/tests/cli/tasks/";
const Args kCaches = {"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2V2,K3V3"};

Args joined(Args args, const Args& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

/// A command for a model, without the options of results.
std::vector<Args> commands(const std::string& m) {
  const Args eval = {"eval-logits", "-m", m,        "-f",  text("evaluation"), "--tokens", "64", "--chunk",
                     "32",          "-q", "--bits", "2,3", "--metrics",        "kl"},
             quality = {"perplexity", "-m", m,         "-f", text("evaluation"),
                        "--tokens",   "64", "--chunk", "32", "-q"},
             forced = {"niah",  "-m",          m,   "-f", text("evaluation"), "--context",
                       "64,96", "--questions", "2", "-q"},
             niah = {"niah", "-m",       m,   "--task",          "single-1", "--context",
                     "300",  "--trials", "2", "--answer-tokens", "2",        "-q"},
             longbench = {"longbench", "-m", m, "--data", kTasks + "longbench", "--answer-tokens", "2", "-q"},
             aime = {"aime", "-m", m, "--data", kTasks + "aime.jsonl", "--answer-tokens", "2", "-q"};
  return {eval,
          joined(quality, kCaches),
          joined(forced, kCaches),
          joined(niah, kCaches),
          joined(longbench, kCaches),
          joined(aime, kCaches)};
}

/// The document inside.
Json data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t at = page.find(open);
  REQUIRE(at != std::string::npos);
  const size_t begin = at + open.size();
  return Json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

}  // namespace

TEST_CASE("--html: the numbers of --json inside, charts, and no way out for a name") {
  TempFolder dir;
  const std::string name = "<script>a&'\"", m = dir / name, page = dir / "page.html", json = dir / "r.json";
  std::filesystem::create_directory_symlink(model("tiny-llama"), m);
  for (const Args& command : commands(m)) {
    CAPTURE(command[0]);
    good(joined(command, {"--html", page, "--json", json, "--force"}));
    const std::string html = get_file(page);
    CHECK(html.find(name) == std::string::npos);
    CHECK(data_of(html) == Json::parse(get_file(json)));
    for (const char* part : {"<!DOCTYPE html>", "<svg ", "<table class=\"sort", "</html>\n"})
      CHECK_THAT(html, ContainsSubstring(part));
    CHECK_THAT(html, ContainsSubstring("<code>blockgtq " + command[0] + " "));
  }
}

TEST_CASE("--html: refused where the file exists, and then nothing else appears; '-' prints the page") {
  TempFolder dir;
  const std::string page = dir / "page.html", json = dir / "r.json";
  for (const Args& command : commands(model("tiny-llama"))) {
    CAPTURE(command[0]);
    put_file(page, "old");
    const Outcome refused = blockgtq(joined(command, {"--html", page, "--json", json}));
    CHECK(refused.code == 4);
    CHECK(error_lines(refused) == 1);
    CHECK_THAT(refused.err, ContainsSubstring("page.html: file exists"));
    CHECK(get_file(page) == "old");
    CHECK(dir.entries() == 1);
    CHECK(blockgtq(joined(command, {"--html", "-", "--json", "-"})).code == 2);
  }
  const Args quality = commands(model("tiny-llama"))[1];
  good(joined(quality, {"--html", page, "--force"}));
  const Outcome printed = good(joined(quality, {"--html", "-", "-t", "1"}));
  const bool same = printed.out == get_file(page);
  CHECK(same);
}

TEST_CASE("perplexity --html: the map of every model, a panel, and the model alone") {
  TempFolder dir;
  const std::string spec = small_panel(dir, {"tiny-llama", "tiny-deepseek2", "no-such-model"}),
                    page = dir / "page.html";
  const Outcome outcome = blockgtq({"perplexity", "--panel", spec, "--tokens", "64", "--chunk", "32",
                                    "--k-method", "block-gtq", "--pairs", "K2,K3", "--html", page, "-q"});
  CHECK(outcome.code == 1);
  const std::string panel = get_file(page);
  CHECK_THAT(panel, ContainsSubstring("Energy of blocks") && ContainsSubstring("no-such-model") &&
                        ContainsSubstring("geometric mean over 2 models"));
  CHECK(data_of(panel).at("models").size() == 3);
  const std::string alone = good({"perplexity", "-m", model("tiny-llama"), "-f", text("evaluation"),
                                  "--tokens", "64", "--chunk", "32", "--html", "-", "-q"})
                                .out;
  CHECK_THAT(alone, ContainsSubstring("Perplexity of tiny-llama"));
  CHECK(alone.find("<svg ") == std::string::npos);
}

TEST_CASE("bench decode --html: without a GPU one line, and no page") {
  TempFolder dir;
  const Outcome outcome = blockgtq({"bench", "decode", "--shape", "qwen2.5-3b", "--html", dir / "page.html"},
                                   {"CUDA_VISIBLE_DEVICES="});
  CHECK(outcome.code == 5);
  CHECK(error_lines(outcome) == 1);
  CHECK(dir.entries() == 0);
}

}  // namespace blockgtq
