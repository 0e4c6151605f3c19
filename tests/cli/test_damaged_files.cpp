// Every command that reads a .h5: a damaged one is one line and exit code 3, and leaves nothing behind.
#include "cli/command.h"

namespace blockgtq {
namespace {

/// How each command is given a file of this kind; {} is where it stands.
struct Reader {
  const char* kind;
  std::vector<std::string> args;
};

const std::string kModel = model("tiny-llama"), kText = text("evaluation");

std::vector<Reader> readers(const TempFolder& good, const std::string& out) {
  const std::string acts = good / "acts", map = good / "map", stats = good / "stats";
  return {
      {"map", {"inspect", "{}"}},
      {"acts", {"inspect", "{}"}},
      {"stats", {"inspect", "{}"}},
      {"acts", {"energy", "{}", "-o", out}},
      {"stats", {"merge", "{}", stats, "-o", out}},
      {"stats", {"merge", stats, "{}", "-o", out}},
      {"stats", {"allocate", "{}", "--bits", "3", "-o", out}},
      {"acts", {"quantize", "{}", "--map", map, "-o", out}},
      {"map", {"quantize", acts, "--map", "{}", "-o", out}},
      {"map", {"eval-logits", "-m", kModel, "-f", kText, "--tokens", "64", "--map", "{}", "--json", out}},
      {"acts", {"eval-logits", "--activations", "{}", "--json", out}},
      {"map", {"export-bitmap", "{}", "--format", "json", "-o", out}},
      {"map", {"export-bitmap", "{}", "--fold", kModel, "-o", out}},
      {"map",
       {"perplexity", "-m", kModel, "-f", kText, "--tokens", "64", "--k-method", "block-gtq", "--pairs", "K3",
        "--map", "{}", "--json", out}},
      {"map",
       {"niah", "-m", kModel, "-f", kText, "--k-method", "block-gtq", "--pairs", "K3", "--map", "{}",
        "--json", out}},
  };
}

std::string damage(std::string bytes, int how) {
  if (how == 0) return bytes.substr(0, bytes.size() * 2 / 3);
  if (how == 1) return "\x89HDF\r\n\x1a\n" + std::string(4000, '\xff');
  for (size_t i = 64; i < bytes.size(); i += 50) bytes[i] ^= 0x40;  // the tree of metadata and the data
  return bytes;
}

}  // namespace

TEST_CASE("a damaged file is one line and code 3 for every command") {
  TempFolder sound, dir;
  good({"calibrate", "-m", kModel, "-f", text("calibration"), "--tokens", "256", "-o", sound / "map", "-q"});
  good({"dump", "-m", kModel, "-f", text("calibration"), "--tokens", "64", "-o", sound / "acts", "-q"});
  good({"energy", sound / "acts", "-o", sound / "stats", "-q"});
  const std::string file = dir / "damaged.h5";
  for (const Reader& reader : readers(sound, dir / "out"))
    for (const int how : {0, 1, 2}) {
      put_file(file, damage(get_file(sound / reader.kind), how));
      std::vector<std::string> args = reader.args;
      for (std::string& a : args)
        if (a == "{}") a = file;
      const Outcome outcome = blockgtq(args);
      CAPTURE(args, how, outcome.err);
      CHECK(outcome.code == 3);
      CHECK(error_lines(outcome) == 1);
      CHECK_THAT(outcome.err, ContainsSubstring("error: " + file + ": "));
      CHECK(outcome.out.empty());
      CHECK(dir.entries() == 1);
    }
}

}  // namespace blockgtq
