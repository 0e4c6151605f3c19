// Commands that keep OUTPUT.resume: killed at several moments and run again, they leave the bytes of a run
// that nobody disturbed.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "cli/killed.h"

namespace blockgtq {
namespace {

using Json = nlohmann::json;
using Args = std::vector<std::string>;

Args joined(Args args, const Args& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

/// The state that is kept of this stage, the last one; null: none.
Json kept(const std::string& path, int stage) {
  std::string head;
  std::ifstream file(path);
  std::getline(file, head);
  if (head.empty()) return Json();
  const Json stages = Json::parse(head).at("stages");
  return int(stages.size()) == stage + 1 ? stages.back().at("state") : Json();
}

struct Command {
  Args args;                 // without the output
  std::string output;        // the option that names it
  std::string counter;       // of the state: how far it is
  std::vector<int> moments;  // of it, where the run is to be killed
  int stage = 0;             // whose counter it is
  size_t n_kept = 1;         // files beside the output
};

/// Kills the command at `at` of its counter. It is repeated where the run was faster.
void kill_at(const Command& command, const std::string& out, int at, int signal, int code) {
  for (int attempt = 0;; ++attempt) {
    REQUIRE(attempt < 20);
    std::filesystem::remove(out);
    const int ended = run_killed(
        joined(command.args, {command.output, out, "--checkpoint-seconds", "0", "-q", "--resume", "never"}),
        [&] {
          const Json state = kept(out + ".resume", command.stage);
          return !state.is_null() && state.at(command.counter) >= at;
        },
        signal);
    if (ended == code && std::filesystem::exists(out + ".resume")) return;
  }
}

void check_killed(const Command& command) {
  INFO(command.args[0]);
  const TempFolder dir;
  const std::string whole = dir / "whole", out = dir / "out";
  good(joined(command.args, {command.output, whole, "-q"}));
  CHECK(dir.entries() == 1);
  for (const int at : command.moments) {
    kill_at(command, out, at, SIGKILL, 128 + SIGKILL);
    CHECK(!std::filesystem::exists(out));
    const Outcome again = good(joined(command.args, {command.output, out, "--resume", "must"}));
    CHECK_THAT(again.err, ContainsSubstring("goes on from here"));
    CHECK(same_bytes(out, whole));
    CHECK(dir.entries() == 2);
  }
  if (command.stage > 0) return;
  kill_at(command, out, command.moments[0], SIGTERM, 75);
  CHECK(dir.entries() == 1 + command.n_kept);  // the whole one and the checkpoint
  good(joined(command.args, {command.output, out, "-q"}));
  CHECK(same_bytes(out, whole));
  CHECK(dir.entries() == 2);
}

/// The bytes of a checkpoint as another version of the program would have written them.
std::string of_version(const std::string& version, const std::string& bytes) {
  const size_t line = bytes.find('\n');
  nlohmann::ordered_json head = nlohmann::ordered_json::parse(bytes.substr(0, line));
  for (auto& stage : head["stages"]) stage["signature"]["blockgtq"] = version;
  const std::string body = head.dump() + bytes.substr(line, bytes.size() - 64 - line);
  return body + sha256_hex(body);
}

/// Every one of `others` is refused, and its error names the field.
void check_refused(const Command& command, const std::vector<std::pair<Args, std::string>>& others) {
  INFO(command.args[0]);
  const TempFolder dir;
  const std::string out = dir / "out";
  const auto refused = [&](const Args& args, int code, const std::string& words) {
    const Outcome outcome = blockgtq(args);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(words));
    CHECK(!std::filesystem::exists(out));
  };
  const Args here = {command.output, out, "-q"};
  refused(joined(joined(command.args, here), {"--resume", "must"}), 3, "no file to resume from");
  kill_at(command, out, 1, SIGKILL, 128 + SIGKILL);
  const std::string bytes = get_file(out + ".resume");
  for (const auto& [args, field] : others) refused(joined(args, here), 3, field);
  CHECK(get_file(out + ".resume") == bytes);

  put_file(out + ".resume", of_version("0.0.1", bytes));
  refused(joined(command.args, here), 3, "blockgtq: 0.0.1 in the file");
  put_file(out + ".resume", bytes.substr(0, bytes.size() / 2));
  refused(joined(joined(command.args, here), {"--resume", "must"}), 3, "not as it was written");
  const Outcome anew = good(joined(command.args, here));
  CHECK(warning_lines(anew) == 1);
  CHECK_THAT(anew.err, ContainsSubstring("computed anew"));
  CHECK(dir.entries() == 1);

  kill_at(command, out, 1, SIGKILL, 128 + SIGKILL);
  const Outcome never = good(joined(others[0].first, {command.output, out, "--resume", "never"}));
  CHECK(never.err.find("goes on") == std::string::npos);
  CHECK(dir.entries() == 1);
}

Args run_of(const std::string& command, const std::string& name, const std::string& words,
            const std::string& tokens) {
  return {command, "-m", model(name), "-f", text(words), "--tokens", tokens};
}

}  // namespace

TEST_CASE("energy and calibrate: killed and run again, the same bytes") {
  check_killed({run_of("energy", "tiny-llama", "calibration", "1500"), "-o", "layer", {1, 2, 3}});
  check_killed({run_of("energy", "tiny-deepseek2", "calibration", "1500"), "-o", "layer", {1, 2, 3}});
  check_killed({joined(run_of("energy", "tiny-qwen3-moe", "calibration", "1500"),
                       {"--part", "2/3", "--calibrate-from", "4"}),
                "-o",
                "layer",
                {1, 2, 3}});
  check_killed({run_of("calibrate", "tiny-llama", "calibration", "1500"), "-o", "layer", {1, 3, 4}});
}

TEST_CASE("energy of a dump: killed and run again, the same bytes") {
  const TempFolder dir;
  const std::string acts = dir / "acts.h5";
  good(joined(run_of("dump", "tiny-llama", "calibration", "1500"), {"-o", acts, "-q"}));
  check_killed({{"energy", acts}, "-o", "layer", {1, 2, 3}});
}

TEST_CASE("energy and calibrate: a checkpoint of another run is refused, field by field") {
  const std::string tokens = "1500";
  check_refused(
      {run_of("energy", "tiny-llama", "calibration", tokens), "-o", "layer", {1, 2, 3}},
      {{run_of("energy", "tiny-llama", "evaluation", tokens), "corpus_sha256: "},
       {run_of("energy", "tiny-llama3", "calibration", tokens), "weights: "},
       {run_of("energy", "tiny-llama", "calibration", "1200"), "tokens: 1500 in the file, 1200 here"},
       {joined(run_of("energy", "tiny-llama", "calibration", tokens), {"--chunk", "128"}),
        "chunk: 256 in the file, 128 here"},
       {joined(run_of("energy", "tiny-llama", "calibration", tokens), {"--part", "1/2"}),
        "chunks: 0 to 5 of 6 in the file, 0 to 2 of 6 here"},
       {joined(run_of("energy", "tiny-llama", "calibration", tokens), {"--calibrate-from", "4"}),
        "calibrate_from: nothing in the file, 4 here"},
       {run_of("calibrate", "tiny-llama", "calibration", tokens),
        "command: energy in the file, calibrate here"}});
  check_refused({run_of("calibrate", "tiny-llama", "calibration", tokens), "-o", "layer", {1, 2, 3}},
                {{joined(run_of("calibrate", "tiny-llama", "calibration", tokens), {"--bits", "2"}),
                  "--bits: nothing in the file, 2 here"}});
}

TEST_CASE("eval-logits: killed and run again, the same bytes") {
  const TempFolder dir;
  const std::string map = dir / "map.h5", other = dir / "other.h5", acts = dir / "acts.h5";
  for (const auto& [file, tokens] : {std::pair(map, "600"), std::pair(other, "700")})
    good(joined(run_of("calibrate", "tiny-llama", "calibration", tokens),
                {"--bits", "2.5,3", "-o", file, "-q"}));
  const Args every = {"--map", map,        "--methods", "tq-mse,block-gtq,kivi", "--metrics", "all", "--sink",
                      "4",     "--recent", "4"};
  const Args args = run_of("eval-logits", "tiny-llama", "evaluation", "520");
  check_killed({joined(args, every), "--json", "layer", {1, 3}});
  check_killed(
      {joined(args, {"--chunk", "0", "--metrics", "weighted"}), "--csv", "layer", {2}});  // no intervals
  check_killed({run_of("eval-logits", "tiny-deepseek2", "evaluation", "600"), "--md", "layer", {2}});
  good(joined(run_of("dump", "tiny-llama", "evaluation", "520"), {"-o", acts, "-q"}));
  const Args dumped = joined({"eval-logits", "--activations", acts}, every);
  check_killed({dumped, "--json", "layer", {2}});

  const auto with_map = [&](const std::string& file) { return joined(args, {"--map", file}); };
  check_refused(
      {with_map(map), "--json", "layer", {1}},
      {{with_map(other), "--map: "},
       {joined(with_map(map), {"--methods", "tq-mse"}), "--methods: nothing in the file, tq-mse here"},
       {joined(with_map(map), {"--window", "512"}), "--window: 1024 in the file, 512 here"},
       {joined(with_map(map), {"--metrics", "kl"}), "--metrics: mae in the file, kl here"},
       {dumped, "--activations: nothing in the file"}});
}

TEST_CASE("dump: killed and run again, the same bytes") {
  const std::string tokens = "600";
  check_killed({run_of("dump", "tiny-llama", "calibration", tokens), "-o", "layer", {1, 3}, 0, 2});
  check_killed({joined(run_of("dump", "tiny-qwen3-moe", "calibration", tokens), {"--store", "bf16"}),
                "-o",
                "layer",
                {2},
                0,
                2});
  check_killed({joined(run_of("dump", "tiny-deepseek2", "calibration", tokens), {"--store", "f16"}),
                "-o",
                "layer",
                {2},
                0,
                2});
  const Args args = run_of("dump", "tiny-llama", "calibration", tokens);
  check_refused({args, "-o", "layer", {1}},
                {{joined(args, {"--store", "f16"}), "--store: f32 in the file, f16 here"},
                 {run_of("dump", "tiny-llama", "evaluation", tokens), "corpus_sha256: "}});
}

TEST_CASE("dump: an unfinished file that is not as it was left is not gone on with") {
  const TempFolder dir;
  const std::string whole = dir / "whole", out = dir / "out", part = out + ".resume.part";
  const Command dump = {run_of("dump", "tiny-llama", "calibration", "600"), "-o", "layer", {}};
  good(joined(dump.args, {"-o", whole, "-q"}));
  const auto damaged = [](std::string bytes) {
    for (size_t i = 64; i < bytes.size(); i += 5000) bytes[i] ^= 0x40;
    return bytes;
  };
  const auto shortened = [](const std::string& bytes) { return bytes.substr(0, bytes.size() / 2); };
  const auto foreign = [](const std::string& bytes) { return std::string(bytes.size(), 'x'); };
  for (const auto& change :
       std::vector<std::function<std::string(const std::string&)>>{damaged, shortened, foreign, {}}) {
    kill_at(dump, out, 2, SIGKILL, 128 + SIGKILL);
    if (change)
      put_file(part, change(get_file(part)));
    else
      std::filesystem::remove(part);
    const Outcome must = blockgtq(joined(dump.args, {"-o", out, "--resume", "must", "-q"}));
    INFO(must.err);
    CHECK(must.code == 3);
    CHECK(error_lines(must) == 1);
    CHECK_THAT(must.err, ContainsSubstring("error: " + part + ": "));
    const Outcome anew = good(joined(dump.args, {"-o", out, "-q"}));
    CHECK(warning_lines(anew) == 1);
    CHECK_THAT(anew.err, ContainsSubstring("computed anew"));
    CHECK(same_bytes(out, whole));
    CHECK(dir.entries() == 2);
  }
}

const Args kCaches = {"--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", "K2V2,K4V4"};

TEST_CASE("perplexity: killed and run again, the same bytes") {
  const Args long_text = {
      "perplexity", "-m",   model("tiny-llama"), "-f", text("evaluation"), "-f", text("calibration"),
      "--tokens",   "9000", "--chunk",           "250"};
  check_killed({long_text, "--json", "window", {32}});
  const auto windows = [](const std::string& chunk, const std::string& pairs) {
    return joined(run_of("perplexity", "tiny-llama", "evaluation", "5000"),
                  {"--chunk", chunk, "--k-method", "tq-mse", "--v-method", "tq-mse", "--pairs", pairs});
  };
  check_killed({windows("250", "K2V2,K4V4"), "--json", "window", {8, 16}});
  // 8192 tokens are 4.2 windows of 5 caches, and 0.8 of such a window.
  check_killed({windows("380", "K2V2,K3V3,K4V4"), "--json", "window", {4, 8}});
  check_killed({windows("2000", "K2V2,K3V3,K4V4"), "--json", "window", {1, 2}});
}

TEST_CASE("perplexity: killed in its calibration, while it chooses, and behind that") {
  const Args args = joined(
      run_of("perplexity", "tiny-llama", "evaluation", "2500"),
      {"--chunk", "250", "--calibration", text("calibration"), "--calibration-tokens", "1250", "--k-method",
       "block-gtq,tq-mse-cb", "--v-method", "tq-mse", "--pairs", "K2V2", "--choose", "tq-mse/tq-mse"});
  check_killed({args, "--json", "layer", {3}, 0});
  check_killed({args, "--json", "window", {1}, 1});
  check_killed({args, "--json", "window", {1}, 2});
}

TEST_CASE("calibrate --choose: killed while it chooses, the same bytes") {
  check_killed({joined(run_of("calibrate", "tiny-llama", "calibration", "600"),
                       {"--choose", "--bits", "2", "--choose-chunk", "100", "--choose-tokens", "600"}),
                "-o",
                "window",
                {1},
                1});
}

TEST_CASE("perplexity: a checkpoint of another run is refused, field by field") {
  const Args args = joined(run_of("perplexity", "tiny-llama", "evaluation", "5000"), kCaches);
  check_refused(
      {args, "--json", "window", {1}},
      {{joined(run_of("perplexity", "tiny-llama", "calibration", "5000"), kCaches), "corpus_sha256: "},
       {joined(run_of("perplexity", "tiny-llama3", "evaluation", "5000"), kCaches), "weights: "},
       {joined(args, {"--chunk", "256"}), "chunk: 512 in the file, 256 here"},
       {joined(args, {"--recent", "4"}), "--recent: 0 in the file, 4 here"},
       {joined(args, {"--calibration", text("calibration")}),
        "stage: quality in the file, calibration here"}});
  const Outcome none = blockgtq(joined(args, {"--json", "-", "--resume", "must"}));
  CHECK(none.code == 2);
  CHECK_THAT(none.err, ContainsSubstring("no output file"));
}

TEST_CASE("niah in one pass: killed among the questions of each context, the same bytes") {
  // A pass is 8192 tokens: 13 questions of 200 under three caches, 9 of 300.
  const Args args = joined({"niah", "-m", model("tiny-llama"), "-f", text("evaluation")},
                           {"--context", "200,300", "--questions", "16", "--k-method", "block-gtq", "--pairs",
                            "K2,K4", "--calibration", text("calibration"), "--calibration-tokens", "300"});
  check_killed({args, "--json", "window", {10}, 1});
  check_killed({args, "--csv", "window", {8}, 2});
}

TEST_CASE("tasks: a calibration that was killed goes on, and is kept until all is answered") {
  const TempFolder dir;
  const std::string whole = dir / "whole", out = dir / "out", kept_in = out + "/tiny-llama.jsonl.resume";
  const auto in = [&](const std::string& folder) {
    return Args{"aime",
                "-m",
                model("tiny-llama"),
                "--data",
                BLOCKGTQ_SOURCE_DIR "/tests/cli/tasks/aime.jsonl",
                "--answer-tokens",
                "8",
                "--k-method",
                "block-gtq",
                "--pairs",
                "K2",
                "--calibration",
                text("calibration"),
                "--calibration-tokens",
                "1000",
                "--json",
                "-",
                "-o",
                folder};
  };
  const std::string results = good(joined(in(whole), {"-q"})).out;
  const Args slow = joined(in(out), {"--checkpoint-seconds", "0"});
  for (int attempt = 0; !std::filesystem::exists(kept_in); ++attempt) {
    REQUIRE(attempt < 20);
    std::filesystem::remove_all(out);
    run_killed(slow, [&] { return std::filesystem::exists(kept_in) && kept(kept_in, 0).at("layer") >= 2; });
  }
  const Outcome again = good(slow);
  CHECK_THAT(again.err, ContainsSubstring("tiny-llama.jsonl.resume: goes on from here"));
  CHECK(again.out == results);
  CHECK(same_bytes(out + "/tiny-llama.jsonl", whole + "/tiny-llama.jsonl"));
  CHECK(!std::filesystem::exists(kept_in));
}

TEST_CASE("a short run leaves nothing and pays for nothing") {
  const TempFolder dir;
  const Outcome outcome =
      good(joined(run_of("energy", "tiny-llama", "calibration", "600"), {"-o", dir / "out"}));
  CHECK(dir.entries() == 1);
  CHECK(outcome.err.find("resume") == std::string::npos);
}

}  // namespace blockgtq
