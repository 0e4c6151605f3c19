// Standard input, output and error that are closed, full or a pipe; and which files are left then.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cli/command.h"

namespace blockgtq {
namespace {

const std::string kModel = model("tiny-llama"), kText = text("calibration");

/// eval-logits of 256 tokens, a table on standard output; `more` behind it.
std::string eval(const std::string& more) {
  return "\"$BLOCKGTQ\" eval-logits -q -m '" + kModel + "' -f '" + kText + "' --tokens 256 " + more;
}

}  // namespace

TEST_CASE("standard output that cannot be written is exit code 4 for every command") {
  TempFolder dir;
  const std::string stats = dir / "stats.h5", map = dir / "map.h5";
  good({"energy", "-m", kModel, "-f", kText, "--tokens", "256", "-o", stats, "-q"});
  good({"allocate", stats, "-o", map});
  const std::string commands[] = {"--help",
                                  "--version",
                                  "calibrate --help",
                                  "bench diagnostics --help",
                                  "doctor",
                                  "inspect '" + kModel + "'",
                                  "inspect '" + map + "'",
                                  "tokenize -m '" + kModel + "' -f '" + kText + "' --tokens 9",
                                  "export-bitmap '" + map + "' -o - --format json"};
  for (const std::string& command : commands)
    for (const std::string to : {">&-", ">/dev/full"}) {
      CAPTURE(command, to);
      const Outcome o = shell("\"$BLOCKGTQ\" " + command + " " + to);
      CAPTURE(o.err);
      CHECK(o.code == 4);
      CHECK(error_lines(o) == 1);
      CHECK_THAT(o.err, ContainsSubstring("standard output: cannot write"));
    }
  // A command that prints nothing does not mind.
  CHECK(shell("\"$BLOCKGTQ\" merge '" + stats + "' -o '" + (dir / "merged.h5").string() + "' >&-").code == 0);
}

TEST_CASE("files are whole where standard output fails behind them") {
  for (const std::string to : {">&-", ">/dev/full", "<&- >&-", "<&- >&- 2>&-"}) {
    CAPTURE(to);
    TempFolder dir;
    const std::string json = dir / "eval.json", csv = dir / "eval.csv";
    CHECK(shell(eval("--json '" + json + "' --csv '" + csv + "' " + to)).code == 4);
    CHECK(parse_json(get_file(json), json)["schema"] == "blockgtq.eval-logits/1");
    CHECK(get_file(csv).starts_with("layer,"));
    CHECK(dir.entries() == 2);
  }
}

TEST_CASE("a failing standard error changes no exit code") {
  for (const std::string to : {"2>&-", "2>/dev/full"}) {
    CAPTURE(to);
    CHECK(shell("\"$BLOCKGTQ\" --version " + to).code == 0);
    CHECK(shell("\"$BLOCKGTQ\" calibrat " + to).code == 2);
    CHECK(shell("\"$BLOCKGTQ\" inspect /nowhere " + to).code == 3);
    CHECK(shell("\"$BLOCKGTQ\" --version >/dev/full " + to).code == 4);
    CHECK(shell(eval("-v --progress bar " + to)).code == 0);
    const Outcome json = shell(eval("-v --progress json --json - " + to));
    CHECK(json.code == 0);
    CHECK(parse_json(json.out, "-")["schema"] == "blockgtq.eval-logits/1");
  }
}

TEST_CASE("--json, --csv and --md appear together or not at all") {
  TempFolder dir;
  const std::string json = dir / "eval.json", csv = dir / "eval.csv";
  put_file(csv, "old");
  // While the command waits for its text, a folder takes the last of the three names.
  const Outcome o =
      shell("cd '" + dir.path().string() + "'; mkfifo text; \"$BLOCKGTQ\" eval-logits -q -m '" + kModel +
            "' -f text --tokens 256 --force --json eval.json --csv eval.csv --md eval.md & "
            "until [ -e .eval.md.*.tmp ]; do sleep 0.01; done; mkdir eval.md; cat '" +
            kText + "' >text; wait $!");
  CAPTURE(o.err);
  CHECK(o.code == 4);
  CHECK(o.out.empty());
  CHECK_FALSE(std::filesystem::exists(json));
  CHECK(get_file(csv) == "old");
  CHECK(dir.entries() == 3);  // with the pipe and the folder
}

TEST_CASE("texts come from pipes") {
  const std::string base = "\"$BLOCKGTQ\" tokenize -m '" + kModel + "' ";
  const std::string want = good({"tokenize", "-m", kModel, "-f", kText, "--tokens", "50"}).out;
  CHECK(shell(base + "--tokens 50 -f - <'" + kText + "'").out == want);
  CHECK(shell("cat '" + kText + "' | " + base + "--tokens 50 -f -").out == want);
  CHECK(shell(base + "--tokens 50 -f <(cat '" + kText + "')").out == want);
  CHECK(shell(base + "-f - </dev/null").code == 3);
  const Outcome closed = shell(base + "-f - <&-");
  CHECK(closed.code == 3);
  CHECK_THAT(closed.err, ContainsSubstring("standard input: cannot read"));
}

TEST_CASE("- is a stream where a file is text or JSON") {
  TempFolder dir;
  const std::string ids = good({"tokenize", "-m", kModel, "-f", kText, "--tokens", "300"}).out;
  put_file(dir / "ids.txt", ids);
  const auto perplexity = [&](const std::string& more) {
    return shell("cd '" + dir.path().string() + "'; \"$BLOCKGTQ\" perplexity -q -m '" + kModel +
                 "' --tokens 128 " + more);
  };
  const std::string want = perplexity("-f '" + kText + "'").out;
  CHECK_FALSE(want.empty());
  CHECK(perplexity("--ids - <ids.txt").out == want);
  const std::string quantized =
      "-f '" + kText + "' --k-method block-gtq --pairs K3 --calibration-tokens 128 ";
  CHECK(perplexity(quantized + "--calibration - --json a.json <'" + kText + "'").code == 0);
  CHECK(perplexity(quantized + "--calibration '" + kText + "' --json b.json").code == 0);
  CHECK(parse_json(get_file(dir / "a.json"), "a")["models"][0]["caches"] ==
        parse_json(get_file(dir / "b.json"), "b")["models"][0]["caches"]);
  const Outcome twice = perplexity("-f - --calibration - --k-method block-gtq --pairs K3 <'" + kText + "'");
  CHECK(twice.code == 2);
  CHECK_THAT(twice.err, ContainsSubstring("standard input can be read once"));

  // A configuration, and a list of prompts.
  const std::string tokenize = "\"$BLOCKGTQ\" tokenize -m '" + kModel + "' -f '" + kText + "' --config - ";
  CHECK(shell("printf '[tokenize]\\ntokens = 3\\n' | " + tokenize).out ==
        good({"tokenize", "-m", kModel, "-f", kText, "--tokens", "3"}).out);
  CHECK_THAT(shell("printf '[tokenize]\\ntokns = 3\\n' | " + tokenize).err,
             ContainsSubstring(
                 "standard input: line 2: unknown key 'tokns' in [tokenize], the nearest is 'tokens'"));
  const Outcome listed =
      shell("cd '" + dir.path().string() +
            "'; echo '{\"prompt\": \"The sea\", \"n\": 2}' | \"$BLOCKGTQ\" generate -q -m '" + kModel +
            "' --prompts - -o -");
  CHECK(listed.code == 0);
  CHECK(parse_json(listed.out, "-")["ids"].size() == 2);
  CHECK_FALSE(std::filesystem::exists(dir / "-"));
}

TEST_CASE("- is refused where a file is neither text nor JSON") {
  const std::vector<std::string> run = {"-m", kModel, "-f", kText};
  const auto command = [&](std::vector<std::string> args, const std::vector<std::string>& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  const std::pair<std::vector<std::string>, std::string> mistakes[] = {
      {command({"calibrate", "-o", "-"}, run), "--output: '-': HDF5 needs a file"},
      {command({"dump", "-o", "-"}, run), "--output: '-': HDF5"},
      {command({"energy", "-o", "-"}, run), "--output: '-': HDF5"},
      {{"energy", "-", "-o", "x.h5"}, "activations: '-': HDF5"},
      {{"merge", "a.h5", "-", "-o", "x.h5"}, "stats: '-': HDF5"},
      {{"allocate", "-", "-o", "x.h5"}, "stats: '-': HDF5"},
      {{"quantize", "a.h5", "--map", "-", "-o", "x.h5"}, "--map: '-': HDF5"},
      {command({"eval-logits", "--map", "-"}, run), "--map: '-': HDF5"},
      {{"eval-logits", "--activations", "-"}, "--activations: '-': HDF5"},
      {{"export-bitmap", "-", "-o", "x.json"}, "map: '-': HDF5"},
      {{"tokenize", "-m", "-", "-f", kText}, "--model: '-': a model is a folder"},
      {{"inspect", "-"}, "path: '-': the name of a file or folder"},
      {{"panel", "panel.json", "-o", "-"}, "--output: '-': the name of a folder"},
      {{"longbench", "-m", kModel, "--data", "-"}, "--data: '-': the name of a folder"},
      {{"niah", "-m", kModel, "--task", "single-1", "--chart", "-"}, "--chart: '-': the name of a file"},
      {command({"perplexity", "--k-method", "tq-mse", "--chart", "-"}, run),
       "--chart: '-': the name of a file"},
      {{"bench", "decode", "--shape", "qwen2.5-3b", "--chart", "-"}, "--chart: '-': the name of a file"},
      {{"generate", "-m", kModel, "-p", "x", "--kv", "-"}, "--kv: '-': HDF5"},
  };
  for (const auto& [args, says] : mistakes) {
    const Outcome o = blockgtq(args);
    CAPTURE(o.err);
    CHECK(o.code == 2);
    CHECK(error_lines(o) == 1);
    CHECK_THAT(o.err, ContainsSubstring(says));
  }
  CHECK(blockgtq({"calibrate", "-m", kModel, "-f", kText}, {"BLOCKGTQ_OUTPUT=-"}).code == 2);
}

}  // namespace blockgtq
