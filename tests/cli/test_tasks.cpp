// niah --score generate, longbench and aime: answers that a model writes under several caches.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/killed.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;
using Args = std::vector<std::string>;

const std::string kData = BLOCKGTQ_SOURCE_DIR "/tests/cli/tasks/";

/// What `more` says takes the place of what was said before.
Args with(Args args, const Args& more) {
  for (const std::string& option : more)
    if (const auto found = std::find(args.begin(), args.end(), option);
        option.starts_with("--") && found != args.end())
      args.erase(found, found + 2);
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

const Args kCaches = {"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2V2,K8V8"};

Args niah(const Args& more) {
  return with(with({"niah", "-m", model("tiny-llama"), "-f", text("evaluation"), "--context", "500,600",
                    "--answer-tokens", "6", "--trials", "2", "--depths", "0,100", "-q"},
                   kCaches),
              more);
}
Args longbench(const Args& more) {
  return with(with({"longbench", "-m", model("tiny-llama"), "--data", kData + "longbench", "--answer-tokens",
                    "5", "-q"},
                   kCaches),
              more);
}
Args aime(const Args& more) {
  return with(with({"aime", "-m", model("tiny-llama"), "--data", kData + "aime.jsonl", "--answer-tokens", "8",
                    "--samples", "2", "-q"},
                   kCaches),
              more);
}

size_t lines(const std::string& text) {
  return size_t(std::count(text.begin(), text.end(), '\n'));
}

std::string read_if_there(const std::string& path) {
  return std::filesystem::exists(path) ? get_file(path) : "";
}

void check_refused(const Args& args, int code, const std::string& words) {
  const Outcome outcome = blockgtq(args);
  INFO(outcome.err);
  CHECK(outcome.code == code);
  CHECK(error_lines(outcome) == 1);
  CHECK_THAT(outcome.err, ContainsSubstring(words));
  CHECK(outcome.out.empty());
}

}  // namespace

TEST_CASE("tasks: a killed run goes on where it ended, with the same answers and results") {
  for (const auto& command : {niah({"--task", "single-1,multikey-1"}), longbench({}), aime({})}) {
    INFO(command[0]);
    TempFolder dir;
    const auto in = [&](const char* folder) { return with(command, {"-o", dir / folder, "--json", "-"}); };
    const std::string whole = good(in("whole")).out, file = "/tiny-llama.jsonl";
    const std::string answers = get_file((dir / "whole").string() + file);
    REQUIRE(lines(answers) > 6);
    CHECK(good(with(command, {"--json", "-"})).out == whole);  // and without a folder
    for (const size_t most : {size_t(1), size_t(4), lines(answers) - 2}) {
      const std::string folder = "killed" + std::to_string(most);
      run_killed(in(folder.c_str()),
                 [&] { return lines(read_if_there((dir / folder).string() + file)) >= most; });
      const std::string before = get_file((dir / folder).string() + file);
      CHECK(lines(before) >= most);
      CHECK(answers.starts_with(before.substr(0, before.rfind('\n') + 1)));
      CHECK(good(in(folder.c_str())).out == whole);
      CHECK(get_file((dir / folder).string() + file) == answers);
    }
    CHECK(good(with(in("whole"), {"--resume", "must"})).out == whole);  // nothing is answered again
    CHECK(get_file((dir / "whole").string() + file) == answers);
  }
}

TEST_CASE("tasks: results do not depend on threads; the exact cache comes first") {
  for (const auto& command : {niah({"--task", "single-1"}), longbench({}), aime({})}) {
    INFO(command[0]);
    const std::string out = good(with(command, {"--json", "-", "-t", "1"})).out;
    CHECK(good(with(command, {"--json", "-", "-t", "2"})).out == out);
    const Json json = Json::parse(out);
    CHECK(json.at("schema") == "blockgtq.tasks/1");
    CHECK(json.at("command") == command[0]);
    CHECK(json.at("failures").empty());
    const Json rows = json.at("models").at(0).at("results");
    REQUIRE(rows.size() % 3 == 0);
    for (size_t i = 0; i < rows.size(); i += 3) {
      CHECK(rows[i].at("cache") == "exact");
      CHECK(rows[i].at("difference") == 0.0);
      CHECK(rows[i].at("bytes_per_token") == 0.0);
      CHECK(rows[i + 1].at("cache") == "K2V2 tq-mse / tq-mse");
      CHECK(rows[i + 1].at("bytes_per_token") == Approx(4 * 2 * 2 * (128 * 2 / 8 + 2)));
      CHECK(rows[i + 2].at("k_bits") == 8);
      for (size_t c = 0; c < 3; ++c) {
        const double score = rows[i + c].at("score");
        CHECK(score >= rows[i + c].at("interval").at(0).get<double>());
        CHECK(score <= rows[i + c].at("interval").at(1).get<double>());
        CHECK(score - rows[i].at("score").get<double>() ==
              Approx(rows[i + c].at("difference").get<double>()));
      }
    }
  }
}

TEST_CASE("niah: the answers are RULER's questions at their lengths, with a heat map and a row for each") {
  TempFolder dir;
  const Args command = niah({"--score", "generate", "-o", dir / "o", "--chart", dir / "map.svg", "--csv",
                             dir / "answers.csv", "--md", dir / "table.md"});
  const std::string table = good(command).out;
  CHECK_THAT(table, ContainsSubstring("single-1"));
  CHECK_THAT(table, ContainsSubstring("average"));
  // a header; 6 tasks, 2 contexts, 2 trials, 3 caches
  CHECK(lines(get_file(dir / "answers.csv")) == 1 + 6 * 2 * 2 * 3);
  CHECK(lines(get_file(dir / "table.md")) == 2 + (6 * 2 + 1) * 3);
  const std::string map = get_file(dir / "map.svg");
  CHECK_THAT(map, ContainsSubstring("tiny-llama: exact"));
  CHECK_THAT(map, ContainsSubstring("tiny-llama: K8V8 tq-mse / tq-mse"));
  std::istringstream answers(get_file((dir / "o").string() + "/tiny-llama.jsonl"));
  std::string line;
  std::getline(answers, line);
  const Json head = Json::parse(line);
  CHECK(head.at("schema") == "blockgtq.samples/1");
  CHECK(head.at("answer_tokens") == 6);
  while (std::getline(answers, line)) {
    const Json answer = Json::parse(line);
    const int64_t context = answer.at("context"), prompt = answer.at("prompt_tokens");
    CHECK(prompt + 6 <= context);
    CHECK(prompt + 6 > context - (answer.at("task") == "single-1" ? 60 : 30));  // a unit more does not fit
    CHECK(answer.at("ids").size() <= 6);
    CHECK(answer.at("prompt_sha256").get<std::string>().size() == 64);
  }
  // more trials, another cache: only these are answered
  const std::string before = get_file((dir / "o").string() + "/tiny-llama.jsonl");
  good(with(niah({"--score", "generate", "-o", dir / "o"}), {"--pairs", "K3V3", "--trials", "3"}));
  const std::string after = get_file((dir / "o").string() + "/tiny-llama.jsonl");
  CHECK(after.starts_with(before));
  CHECK(lines(after) == lines(before) + 6 * 2 * (1 + 3));
}

TEST_CASE("tasks: answers from pages, with a chat template, and after calibration") {
  const Json pages = Json::parse(good(aime({"--pages", "--json", "-"})).out);
  CHECK(pages.at("models").at(0).at("run").at("cache") == "pages");
  CHECK(pages.at("models").at(0).at("results").size() == 3);
  const Json trellis =
      Json::parse(good(aime({"--pages", "--json", "-", "--code", "trellis", "--pairs", "K3V3"})).out);
  CHECK(trellis.at("models").at(0).at("run").at("cache") == "pages");
  CHECK(trellis.at("models").at(0).at("results").size() == 2);
  const Outcome refused = blockgtq(aime({"--pages", "--code", "trellis", "--pairs", "K1V1"}));
  CHECK(refused.code == 3);
  CHECK_THAT(refused.err, ContainsSubstring("1 bit: 2 to 4 are expected"));
  const std::vector<std::string> of_latent = {"aime",
                                              "-m",
                                              model("tiny-deepseek2"),
                                              "--data",
                                              kData + "aime.jsonl",
                                              "--answer-tokens",
                                              "3",
                                              "--device",
                                              "cpu",
                                              "-q",
                                              "--pages"};
  const Json latent = Json::parse(good(with(of_latent, {"--json", "-"})).out);
  CHECK(latent.at("models").at(0).at("run").at("cache") == "exact");
  const Outcome packed =
      blockgtq(with(of_latent, {"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K3V3"}));
  CHECK(packed.code == 3);
  CHECK_THAT(packed.err, ContainsSubstring("caches a latent"));
  const Json calibrated = Json::parse(good({"longbench",
                                            "-m",
                                            model("tiny-llama"),
                                            "--data",
                                            kData + "longbench",
                                            "--task",
                                            "qasper",
                                            "--limit",
                                            "2",
                                            "--answer-tokens",
                                            "3",
                                            "--k-method",
                                            "block-gtq",
                                            "--pairs",
                                            "K3",
                                            "--calibration",
                                            text("calibration"),
                                            "--calibration-tokens",
                                            "256",
                                            "-q",
                                            "--json",
                                            "-"})
                                          .out);
  const Json rows = calibrated.at("models").at(0).at("results");
  REQUIRE(rows.size() == 2);  // one task: no average
  CHECK(rows[1].at("answers") == 2);
  CHECK_THAT(calibrated.at("models").at(0).at("run").at("quantizers").get<std::string>(),
             ContainsSubstring("calibration "));
  check_refused(aime({"--chat"}), 3, "template");  // the small models have none
}

TEST_CASE("longbench: a prompt that is too long loses its middle") {
  TempFolder dir;
  good({"longbench", "-m", model("tiny-llama"), "--data", kData + "longbench", "--task", "qasper",
        "--answer-tokens", "3", "--context", "80", "-q", "-o", dir / "o"});
  std::istringstream answers(get_file((dir / "o").string() + "/tiny-llama.jsonl"));
  std::string line;
  std::getline(answers, line);
  size_t n = 0;
  for (; std::getline(answers, line); ++n) {
    const Json answer = Json::parse(line);
    CHECK(answer.at("cut") == true);
    CHECK(answer.at("prompt_tokens") <= 77);
    CHECK(answer.at("prompt_tokens") >= 70);
  }
  CHECK(n == 3);
  check_refused(longbench({"--context", "6"}), 2, "no room for a prompt");
}

TEST_CASE("tasks: another run's answers are refused, field by field") {
  TempFolder dir;
  const std::string folder = dir / "o";
  good(aime({"-o", folder}));
  check_refused(aime({"-o", folder, "--temperature", "0", "--seed", "7"}), 3,
                "of another run: temperature: 0.6 in the file, 0.0 here; seed: 42 in the file, 7 here");
  check_refused(aime({"-o", folder, "--resume", "never"}), 4, "file exists");
  check_refused(aime({"-o", dir / "none", "--resume", "must"}), 3, "no file to resume from");
  good(aime({"-o", folder, "--temperature", "0", "--resume", "never", "--force"}));
  check_refused(aime({"-o", folder}), 3, "of another run");
  // the same id with another text
  put_file(dir / "other.jsonl", "{\"id\": \"A-1\", \"problem\": \"What?\", \"answer\": 55}\n");
  check_refused(aime({"-o", folder, "--temperature", "0", "--data", dir / "other.jsonl"}), 3,
                "the answer to A-1/0 was given to another prompt");
}

TEST_CASE("tasks: one line and the documented exit code") {
  TempFolder dir;
  put_file(dir / "empty.jsonl", "");
  put_file(dir / "broken.jsonl", "{\"problem\": \"p\", \"answer\": 1}\n{\"problem\": \n");
  put_file(dir / "missing.jsonl", "{\"problem\": \"p\"}\n");
  put_file(dir / "type.jsonl", "{\"problem\": \"p\", \"answer\": [1]}\n");
  const auto of = [&](const char* name) { return aime({"--data", dir / name}); };
  check_refused(of("none.jsonl"), 3, "none.jsonl");
  check_refused(of("empty.jsonl"), 3, "empty.jsonl: no lines of JSON");
  check_refused(of("broken.jsonl"), 3, "broken.jsonl:2");
  check_refused(of("missing.jsonl"), 3, "missing.jsonl:1: \"answer\" is missing");
  check_refused(of("type.jsonl"), 3, "type.jsonl:1: \"answer\" is not a text or a whole number: array found");
  check_refused(longbench({"--data", dir.path()}), 3, "no data of LongBench's English tasks");
  check_refused(longbench({"--task", "qasper,dureader"}), 2, "is unknown");
  check_refused(longbench({"--task", "musique"}), 3, "musique.jsonl");
  check_refused(niah({"--task", "single-4"}), 2, "'single-4' is unknown");
  check_refused(niah({"--task", "single-1", "--depths", "101"}), 2, "'101' is not from 0 to 100");
  check_refused(niah({"--task", "single-1", "--context", "64"}), 2, "finds no room");
  check_refused(niah({"--task", "single-1", "--questions", "3"}), 2, "belongs to --score forced");
  check_refused(niah({"--score", "forced"}), 2, "belongs to --score generate");
  check_refused({"niah", "-m", model("tiny-llama"), "--task", "single-2", "--context", "400"}, 2,
                "--task single-2: a text is missing");
  check_refused(aime({"--pairs", "K2V2", "--k-method", "kivi"}), 2, "neighbouring tokens share scales");
  check_refused(aime({"--map", "x.h5"}), 3, "x.h5");
}

}  // namespace blockgtq
