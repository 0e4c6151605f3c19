// What a user gets wrong: one error line, the documented exit code, no partial file.
#include <signal.h>

#include <thread>

#include "cli/command.h"

namespace blockgtq {
namespace {

struct Mistake {
  const char* what;
  std::vector<std::string> args;
  int code;
  const char* says;
};

const std::string kModel = model("tiny-llama"), kText = text("calibration");

}  // namespace

TEST_CASE("one line and the documented exit code") {
  TempFolder dir;
  const std::string out = dir / "out.h5", taken = dir / "taken.h5", junk = dir / "junk.h5",
                    latin = dir / "latin.txt";
  put_file(taken, "mine");
  put_file(junk, "not HDF5");
  put_file(latin, "caf\xe9 au lait");
  const std::vector<Mistake> mistakes = {
      {"no command", {}, 2, "subcommand"},
      {"unknown command", {"calibrat"}, 2, "calibrat"},
      {"unknown command with help", {"calibrat", "--help"}, 2, "unknown argument: calibrat"},
      {"unknown command of bench with help", {"bench", "decod", "--help"}, 2, "unknown argument: decod"},
      {"unknown option with help", {"calibrate", "--bitz", "--help"}, 2, "unknown option: --bitz"},
      {"an escape sequence and a second line",
       {"tokenize", "-m", kModel, "-f", "a\x1b[31mred\nerror: b\xff\xe2\x80\xae"},
       3,
       "a\\x1b[31mred\\nerror: b\\xff\\u202e"},
      {"unknown option", {"calibrate", "--bitz", "3"}, 2, "--bitz"},
      {"no model", {"calibrate", "-f", kText, "-o", out}, 2, "--model"},
      {"no text", {"calibrate", "-m", kModel, "-o", out}, 2, "-f TEXT"},
      {"text and ids", {"calibrate", "-m", kModel, "-f", kText, "--ids", kText, "-o", out}, 2, "exclude"},
      {"bits too many", {"calibrate", "-m", kModel, "-f", kText, "--bits", "9", "-o", out}, 2, "'9'"},
      {"bits no number", {"calibrate", "-m", kModel, "-f", kText, "--bits", "3,x", "-o", out}, 2, "'x'"},
      {"average below the minimum",
       {"calibrate", "-m", kModel, "-f", kText, "--tokens", "256", "--bits", "2", "--min-bits", "3", "-o",
        out, "-q"},
       2,
       "3 to 8"},
      {"unknown device", {"calibrate", "-m", kModel, "-f", kText, "--device", "tpu", "-o", out}, 2, "tpu"},
      {"no such model", {"calibrate", "-m", dir / "nowhere", "-f", kText, "-o", out}, 3, "nowhere"},
      {"no such text", {"calibrate", "-m", kModel, "-f", dir / "nowhere.txt", "-o", out}, 3, "nowhere.txt"},
      {"text too short",
       {"calibrate", "-m", kModel, "-f", kText, "--tokens", "1000000", "-o", out},
       3,
       "1000000"},
      {"text not UTF-8",
       {"calibrate", "-m", kModel, "-f", latin, "--tokens", "2", "-o", out},
       3,
       "latin.txt"},
      {"not HDF5", {"allocate", junk, "-o", out}, 3, "junk.h5"},
      {"output exists", {"calibrate", "-m", kModel, "-f", kText, "-o", taken}, 4, "exists"},
      {"output folder missing",
       {"calibrate", "-m", kModel, "-f", kText, "-o", dir / "no/such/out.h5"},
       4,
       "out.h5"},
      {"output is a folder",
       {"calibrate", "-m", kModel, "-f", kText, "-o", dir.path().string()},
       4,
       "folder"},
      {"method needs a map",
       {"eval-logits", "-m", kModel, "-f", kText, "--methods", "block-gtq"},
       2,
       "--map"},
      {"unknown method", {"eval-logits", "-m", kModel, "-f", kText, "--methods", "magic"}, 2, "magic"},
      {"part out of range", {"energy", "-m", kModel, "-f", kText, "--part", "5/4", "-o", out}, 2, "5/4"},
      {"panel spec missing", {"panel", dir / "none.json", "-o", dir / "panel"}, 3, "none.json"},
  };
  for (const Mistake& m : mistakes) {
    CAPTURE(m.what);
    const Outcome outcome = blockgtq(m.args);
    CAPTURE(outcome.err);
    CHECK(outcome.code == m.code);
    CHECK(error_lines(outcome) == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(m.says));
    CHECK(outcome.out.empty());
  }
  CHECK(get_file(taken) == "mine");
  CHECK(dir.entries() == 3);  // taken, junk, latin: nothing else appeared
}

TEST_CASE("a full disk is exit code 4 and leaves nothing", "[slow]") {
  TempFolder dir;
  const std::string mount =
      "mount -t tmpfs -o size=64k blockgtq-test " + dir.path().string() + " 2>/dev/null";
  if (geteuid() != 0 || std::system(mount.c_str()) != 0) {
    WARN("skipped: cannot mount a small tmpfs here");
    return;
  }
  for (const std::string command : {"dump", "energy"}) {
    CAPTURE(command);
    const Outcome outcome =
        blockgtq({command, "-m", kModel, "-f", kText, "--tokens", "512", "-q", "-o", dir / "out.h5"});
    CAPTURE(outcome.err);
    CHECK(outcome.code == 4);
    CHECK(error_lines(outcome) == 1);
    CHECK(dir.entries() == 0);
  }
  CHECK(std::system(("umount " + dir.path().string()).c_str()) == 0);
}

TEST_CASE("--help and --version go to stdout with code 0") {
  CHECK_THAT(good({"--help"}).out, ContainsSubstring("calibrate"));
  CHECK_THAT(good({"calibrate", "--help"}).out, ContainsSubstring("--bits"));
  CHECK_THAT(good({"--version"}).out, ContainsSubstring("blockgtq "));
}

TEST_CASE("doctor finds every known answer") {
  const Outcome outcome = good({"doctor"});
  CHECK(outcome.out.find("WRONG") == std::string::npos);
  CHECK_THAT(outcome.out, ContainsSubstring("default_rng(42)"));
}

}  // namespace blockgtq
