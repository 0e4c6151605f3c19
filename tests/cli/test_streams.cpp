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

}  // namespace blockgtq
