// Where the value of an option comes from, and how it is read: command line, environment, --config FILE.toml.
#include "cli/command.h"

namespace blockgtq {
namespace {

const std::string kModel = model("tiny-llama"), kText = text("calibration");

std::vector<std::string> tokenize(const std::vector<std::string>& more,
                                  const std::vector<std::string>& first = {}) {
  std::vector<std::string> args = first;
  args.insert(args.end(), {"tokenize", "-m", kModel, "-f", kText});
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

int64_t lines(const Outcome& o) {
  return std::count(o.out.begin(), o.out.end(), '\n');
}

/// One error line, exit code 2, nothing on standard output.
void check_usage(const Outcome& o, const std::string& says) {
  CAPTURE(o.err);
  CHECK(o.code == 2);
  CHECK(error_lines(o) == 1);
  CHECK_THAT(o.err, ContainsSubstring(says));
  CHECK(o.out.empty());
}

/// `toml` as the configuration of a tokenize.
Outcome with_config(const std::string& toml, const std::vector<std::string>& more = {}) {
  TempFolder dir;
  const std::string config = dir / "options.toml";
  put_file(config, toml);
  return blockgtq(tokenize(more, {"--config", config}));
}

}  // namespace

TEST_CASE("numbers are decimal, wherever they come from") {
  TempFolder dir;
  const std::string out = dir / "out.h5";
  CHECK(lines(good(tokenize({"--tokens", "10"}))) == 10);
  for (const std::string number :
       {"0100", "00", "-01", "0x10", "0X10", "0b11", "0o17", "+5", " 5", "5 ", "5\n", "1e3", "5.0", "5x",
        "1_000", "1,000", "true", "99999999999999999999"}) {
    CAPTURE(number);
    check_usage(blockgtq(tokenize({"--tokens=" + number})), "--tokens: ");
    check_usage(blockgtq({"allocate", "none.h5", "-o", out, "--resamples=" + number}), "--resamples: ");
  }
  for (const std::string number : {"0100", "0x10", "+5", " 5"}) {
    CAPTURE(number);
    check_usage(blockgtq(tokenize({}), {"BLOCKGTQ_TOKENS=" + number}), "--tokens: ");
    check_usage(with_config("[tokenize]\ntokens = \"" + number + "\"\n"), "options.toml: line 2: --tokens: ");
  }
  CHECK_THAT(blockgtq(tokenize({"--tokens", "0100"})).err,
             ContainsSubstring("'0100' begins with a zero, a decimal whole number is expected"));
  CHECK_THAT(blockgtq(tokenize({"--tokens", "99999999999999999999"})).err,
             ContainsSubstring("is out of range"));
  CHECK_THAT(blockgtq(tokenize({"--tokens=-5"})).err, ContainsSubstring("--tokens: "));

  for (const std::string number : {"010", "0x1p3", "+1e3", " 1", "1e3 ", "1e", "inf", "nan", "1e999", "5x"}) {
    CAPTURE(number);
    check_usage(blockgtq({"allocate", "none.h5", "-o", out, "--budget-bytes-per-token=" + number}),
                "--budget-bytes-per-token: ");
  }
  for (const std::string number :
       {"1e3", "1000", "1000.5", "0.5"})  // these are read: what is missing is the file
    CHECK(blockgtq({"allocate", "none.h5", "-o", out, "--budget-bytes-per-token=" + number}).code == 3);
}

TEST_CASE("numbers inside of texts are decimal as well") {
  TempFolder dir;
  const std::string out = dir / "out.h5";
  for (const std::string bits : {"0x3", "03", "+3", " 3", "3 ", "2,0x3", "inf", "3x"}) {
    CAPTURE(bits);
    check_usage(blockgtq({"allocate", "none.h5", "-o", out, "--bits=" + bits}), "--bits: ");
  }
  for (const std::string size : {"0x10", "010MB", "+8GiB", "8 GiB", " 8GiB", "8Gb", "GiB"}) {
    CAPTURE(size);
    check_usage(blockgtq({"allocate", "none.h5", "-o", out, "--context=64", "--budget-memory=" + size}),
                "--budget-memory: ");
  }
  for (const std::string part :
       {"01/4", "+1/4", "1/0x4", " 1/4", "1/4 ", "1", "/", "99999999999999999999/4"}) {
    CAPTURE(part);
    check_usage(blockgtq({"energy", "-m", kModel, "-f", kText, "--part=" + part, "-o", out}), "--part: ");
  }
  for (const std::string gate : {"kl>0x1", "kl>+1", "kl> 1", "kl>1x", "kl>inf", "kl>"}) {
    CAPTURE(gate);
    check_usage(blockgtq({"perplexity", "-m", kModel, "-f", kText, "--k-method", "tq-mse", "--pairs", "K2",
                          "--fail-if=" + gate}),
                "--fail-if: ");
  }
  for (const std::string device : {"cuda:0x1", "cuda:01", "cuda:+1", "cuda:", "cuda:1x"}) {
    CAPTURE(device);
    check_usage(blockgtq({"energy", "-m", kModel, "-f", kText, "-o", out, "--device=" + device}),
                "--device: ");
  }
}

TEST_CASE("flag, then environment, then file") {
  const std::string config = "[tokenize]\ntokens = 3\n";
  TempFolder dir;
  put_file(dir / "options.toml", config);
  const std::vector<std::string> args = tokenize({}, {"--config", dir / "options.toml"});
  CHECK(lines(good(args)) == 3);
  CHECK(lines(good(args, {"BLOCKGTQ_TOKENS=5"})) == 5);
  CHECK(lines(good(args, {"BLOCKGTQ_TOKENS="})) == 3);
  std::vector<std::string> with_flag = args;
  with_flag.insert(with_flag.end(), {"--tokens", "7"});
  CHECK(lines(good(with_flag, {"BLOCKGTQ_TOKENS=5"})) == 7);
}

TEST_CASE("the environment is that of the command that runs") {
  // 0 is all tokens here, and out of range for inspect.
  CHECK(lines(good(tokenize({}), {"BLOCKGTQ_TOKENS=0"})) > 1000);
  check_usage(blockgtq({"inspect", kModel}, {"BLOCKGTQ_TOKENS=0"}), "--tokens: ");
  check_usage(blockgtq({"bench", "diagnostics"}, {"BLOCKGTQ_REPEAT=0x1"}), "--repeat: ");
  CHECK_THAT(good({"tokenize", "--help"}).out, ContainsSubstring("BLOCKGTQ_TOKENS"));
}

TEST_CASE("an option that is a flag here and takes a value there has a variable of each command") {
  const std::string calibrate = good({"calibrate", "--help"}).out,
                    perplexity = good({"perplexity", "--help"}).out;
  CHECK_THAT(calibrate, ContainsSubstring("BLOCKGTQ_CALIBRATE_CHOOSE)"));
  CHECK_THAT(perplexity, ContainsSubstring("BLOCKGTQ_PERPLEXITY_CHOOSE)"));
  CHECK_THAT(calibrate + perplexity, !ContainsSubstring("BLOCKGTQ_CHOOSE)"));

  // Each command with the setting of both.
  TempFolder dir;
  const std::vector<std::string> both = {"BLOCKGTQ_CALIBRATE_CHOOSE=true",
                                         "BLOCKGTQ_PERPLEXITY_CHOOSE=tq-mse/tq-mse"};
  CHECK_THAT(good({"calibrate", "-m", kModel, "-f", kText, "--tokens", "64", "--bits", "2", "--choose-tokens",
                   "64", "-o", dir / "map.h5", "-q"},
                  both)
                 .out,
             ContainsSubstring("KL of tq-mse"));
  CHECK_THAT(good({"perplexity", "-m", kModel, "-f", kText, "--tokens", "64", "--calibration",
                   text("evaluation"), "--calibration-tokens", "64", "--k-method", "tq-mse,tq-mse-cb",
                   "--v-method", "tq-mse", "--pairs", "K2V2", "-q"},
                  both)
                 .out,
             ContainsSubstring("chosen by calibration"));
}

TEST_CASE("what a configuration file may say") {
  // Options of all commands at the top, sections of other commands, comments, both spellings.
  const Outcome all = with_config(
      "# of all\nthreads = 1\nquiet = true\n\n[tokenize]  # of one\ntokens = 1_0  # ten\nbos = true\n"
      "[calibrate]\ncompat = \"reference\"\nmin_bits = 2\nmax-bits = 4\n[bench.diagnostics]\njson = "
      "\"a#b\"\n");
  CAPTURE(all.err);
  CHECK(all.code == 0);
  CHECK(lines(all) == 10);
  CHECK(all.out == good(tokenize({"--tokens", "10", "--bos"})).out);
  CHECK(lines(with_config("[tokenize]\r\ntokens = 4\r\n")) == 4);
  CHECK(lines(with_config("tokenize.tokens = 4\n")) == 4);
  CHECK(lines(with_config("[tokenize]\ntokens = 4\nbos = false\n")) == 4);
  CHECK(lines(with_config("[tokenize]\ntokens = 4\n", {"--tokens", "2"})) == 2);
}

TEST_CASE("lists and texts of a configuration file") {
  TempFolder dir;
  const std::string stats = dir / "stats.h5", config = dir / "options.toml";
  good({"energy", "-m", kModel, "-f", kText, "--tokens", "256", "-o", stats, "-q"});
  auto allocate = [&](const std::string& toml, const std::string& name) {
    put_file(config, toml);
    return good({"--config", config, "allocate", stats, "-o", dir / name, "--json", "-"}).out;
  };
  const std::string both = good({"allocate", stats, "-o", dir / "a.h5", "--bits", "2,3", "--json", "-"}).out;
  CHECK(allocate("[allocate]\nbits = [2, 3]\n", "b.h5") == both);
  CHECK(allocate("[allocate]\nbits = [\n  2,\n  3,  # both\n]\n", "c.h5") == both);
  CHECK(allocate("[allocate]\nbits = \"2,3\"\n", "d.h5") == both);
  CHECK(same_bytes(dir / "a.h5", dir / "b.h5"));
  CHECK(allocate("[allocate]\nbits = 2.5\n", "e.h5") ==
        good({"allocate", stats, "-o", dir / "f.h5", "--bits", "2.5", "--json", "-"}).out);

  // Texts keep what is between the quotes; an option that may be repeated takes a list of them.
  const std::string odd = dir / "a#b, c.txt";
  put_file(odd, "one");
  put_file(dir / "d.txt", "two");
  put_file(config, "[tokenize]\nfile = [\"" + odd + "\", '" + (dir / "d.txt").string() + "']\n");
  CHECK(good({"--config", config, "tokenize", "-m", kModel}).out ==
        good({"tokenize", "-m", kModel, "-f", odd, "-f", dir / "d.txt"}).out);
}

TEST_CASE("what a configuration file may not say") {
  const std::pair<const char*, const char*> mistakes[] = {
      {"\n[tokenize]\ntokns = 4\n",
       "options.toml: line 3: unknown key 'tokns' in [tokenize], the nearest is 'tokens'"},
      {"[tokenize]\nTokens = 4\n", "line 2: unknown key 'Tokens' in [tokenize], the nearest is 'tokens'"},
      {"[calibrate]\nminbits = 4\n", "unknown key 'minbits' in [calibrate], the nearest is 'min-bits'"},
      {"[Tokenize]\ntokens = 4\n", "line 1: unknown section [Tokenize], the nearest is [tokenize]"},
      {"[tokenise]\n", "unknown section [tokenise], the nearest is [tokenize]"},
      {"[bench.diagnostic]\n", "unknown section [bench.diagnostic], the nearest is [bench.diagnostics]"},
      {"[tokenize.more]\ntokens = 4\n", "unknown section [tokenize.more]"},
      {"tokens = 4\n", "line 1: 'tokens' stands outside of any section: it belongs to a command, as in ["},
      {"thread = 4\n", "unknown key 'thread' at the top, the nearest is 'threads'"},
      {"[tokenize]\nthreads = 4\n", "line 2: 'threads' is an option of all commands: it stands at the top"},
      {"[tokenize]\nhelp = true\n", "unknown key 'help'"},
      {"config = \"a\"\n", "unknown key 'config'"},
      {"[perplexity]\ncalibration_tokens = 4\ncalibration-tokens = 5\n",
       "'calibration-tokens' is given twice"},
      {"[tokenize]\ntokens = 4\ntokens = 5\n", "options.toml: line 3: not TOML: "},
      {"[tokenize]\ntokens 4\n", "options.toml: line 2: not TOML: "},
      {"[tokenize]\ntokens = 0100\n", "not TOML: "},
      {"[tokenize]\ntokens = 0x10\n", "line 2: --tokens: '0x10' is not a decimal whole number"},
      {"[tokenize]\ntokens = +5\n", "line 2: --tokens: '+5' is not a decimal whole number"},
      {"[tokenize]\ntokens = 5.5\n", "line 2: --tokens: '5.5' is not a decimal whole number"},
      {"[tokenize]\ntokens = true\n", "line 2: 'tokens' takes a value: true is none"},
      {"[tokenize]\ntokens = [1, 2]\n", "line 2: --tokens: "},
      {"[tokenize]\ntokens = []\n", "line 2: 'tokens': the list is empty"},
      {"[tokenize]\ntokens = 2020-01-01\n", "line 2: 'tokens': a text, a number"},
      {"[tokenize]\nbos = \"yes\"\n", "line 2: 'bos' is on or off: true or false is expected"},
      {"[[tokenize]]\ntokens = 1\n", "tokenize"},
  };
  for (const auto& [toml, says] : mistakes) {
    CAPTURE(toml);
    check_usage(with_config(toml), says);
  }
  check_usage(with_config("a = " + std::string(100, '[')), "not TOML");
  CHECK(with_config("# " + std::string((64 << 10) - 2, 'x')).code == 0);
  check_usage(with_config("# " + std::string((64 << 10) - 1, 'x')), "file too large: more than 65536 bytes");
  check_usage(blockgtq(tokenize({}, {"--config", "/nowhere/options.toml"})), "/nowhere/options.toml");
}

}  // namespace blockgtq
