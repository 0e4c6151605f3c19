// --help of every command: groups, examples; manual pages and completions that are made of the same.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "cli/command.h"

namespace blockgtq {
namespace {

std::vector<std::string> lines_in(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The pages of `manual`, by name: "blockgtq-bench-decode".
std::vector<std::string> page_names(const TempFolder& dir) {
  good({"manual", dir.path().string()});
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// "blockgtq-eval-logits" -> "eval-logits"; "blockgtq-bench-decode" -> "bench", "decode".
std::vector<std::string> words_of(const std::string& page) {
  std::string name = page.substr(std::min(page.size(), std::string("blockgtq-").size()));
  if (name.empty()) return {};
  if (name.starts_with("bench-")) return {"bench", name.substr(6)};
  return {name};
}

bool installed(const std::string& program) {
  return shell("command -v " + program).code == 0;
}

}  // namespace

TEST_CASE("help fits a terminal, and every option has a group") {
  TempFolder dir;
  const std::vector<std::string> pages = page_names(dir);
  CHECK(pages.size() > 25);
  for (const std::string& page : pages) {
    CAPTURE(page);
    std::vector<std::string> args = words_of(page);
    args.push_back("--help");
    const std::string help = good(args).out;
    for (const std::string& line : lines_in(help)) {
      CAPTURE(line);
      CHECK((line.size() <= 110 || line.starts_with("  blockgtq ")));  // some characters are more than a byte
      CHECK((line != "Options:" && line != "OPTIONS:"));               // what apps/option_table.cpp lacks
      CHECK((line != "Subcommands:" || page == "blockgtq-bench"));
    }
  }
  const std::string help = good({"perplexity", "--help"}).out;
  const size_t input = help.find("\nModel and text:\n"), cache = help.find("\nCache:\n"),
               output = help.find("\nOutput:\n"), examples = help.find("\nExamples:\n");
  CHECK((input < cache && cache < output && output < examples && examples != std::string::npos));
  CHECK_THAT(help, ContainsSubstring("  -m, --model MODEL"));
}

TEST_CASE("every example is a command line that is understood") {
  TempFolder pages_dir;
  for (const std::string& page : page_names(pages_dir)) {
    const std::vector<std::string> words = words_of(page);
    if (words == std::vector<std::string>{"bench"}) continue;  // its commands have them
    std::vector<std::string> args = words;
    args.push_back("--help");
    int n = 0;
    for (const std::string& line : lines_in(good(args).out)) {
      if (!line.starts_with("  ") || line.find("blockgtq ") == std::string::npos || line.starts_with("  #") ||
          line.starts_with("   "))
        continue;
      CAPTURE(line);
      // No model and no file is there: what is wrong with the line itself would be found before.
      std::string command =
          line.substr(2, line.find(" | ") == std::string::npos ? std::string::npos : line.find(" | ") - 2);
      if (line.find("echo ") != std::string::npos) command = line.substr(line.find("blockgtq "));
      TempFolder empty;
      const Outcome o = shell(
          "export HOME=/nowhere" +
          std::string(!words.empty() && words[0] == "bench" ? " BLOCKGTQ_LAYERS=1 BLOCKGTQ_REPEAT=1" : "") +
          "\ncd '" + empty.path().string() + "'\nblockgtq() { \"$BLOCKGTQ\" \"$@\"; }\n" + command +
          " </dev/null");
      CAPTURE(o.err);
      CHECK((o.code == 0 || o.code == 3 || o.code == 5 || line.find("~/") != std::string::npos));
      ++n;
    }
    CAPTURE(page);
    CHECK(n >= 1);
  }
}

TEST_CASE("manual pages are clean") {
  TempFolder dir;
  const std::vector<std::string> pages = page_names(dir);
  const std::string decode = get_file(dir / "blockgtq-bench-decode.1");
  CHECK_THAT(decode, ContainsSubstring(".TH BLOCKGTQ\\-BENCH\\-DECODE 1 20"));
  CHECK_THAT(decode, ContainsSubstring("\\fB\\-\\-context\\fR"));
  CHECK_THAT(get_file(dir / "blockgtq.1"), ContainsSubstring("\\fBblockgtq\\-calibrate\\fR(1)"));
  CHECK(std::count(pages.begin(), pages.end(), "blockgtq-manual") == 0);  // for who makes packages
  if (!installed("mandoc")) {
    WARN("skipped: no mandoc");
    return;
  }
  const Outcome lint = shell("mandoc -Tlint '" + dir.path().string() + "'/*.1");
  CAPTURE(lint.out);
  CHECK(lint.code == 0);
  CHECK(lint.out.empty());
}

TEST_CASE("bash completes commands, options and values") {
  TempFolder dir;
  put_file(dir / "blockgtq.bash", good({"completion", "bash"}).out);
  // The candidates of the last word.
  const auto completed = [&](const std::string& words) {
    const Outcome o = shell("source '" + (dir / "blockgtq.bash").string() + "'\nCOMP_WORDS=(" + words +
                            ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_blockgtq\necho \"${COMPREPLY[*]}\"");
    CHECK(o.err.empty());
    return o.out;
  };
  CHECK(completed("blockgtq cal") == "calibrate\n");
  CHECK(completed("blockgtq bench dec") == "decode\n");
  CHECK(completed("blockgtq calibrate --min") == "--min-bits\n");
  CHECK(completed("blockgtq bench decode --ste") == "--steps\n");
  CHECK(completed("blockgtq calibrate --resume ''") == "auto never must\n");
  CHECK(completed("blockgtq -q --progress j") == "json\n");
  CHECK(completed("blockgtq tokenize --progress = pl") == "plain\n");
  CHECK(completed("blockgtq completion ''").find("--") == std::string::npos);
  CHECK(completed("blockgtq tokenize -m ''") == "\n");  // files, by bash itself
  CHECK_THAT(completed("blockgtq tokenize -"), ContainsSubstring("--model"));
  CHECK_THAT(completed("blockgtq tokenize -"), !ContainsSubstring("--min-bits"));
}

TEST_CASE("fish completes commands, options and values") {
  if (!installed("fish")) {
    WARN("skipped: no fish");
    return;
  }
  TempFolder dir;
  put_file(dir / "blockgtq.fish", good({"completion", "fish"}).out);
  const auto completed = [&](const std::string& line) {
    const Outcome o =
        shell("HOME='" + dir.path().string() + "' fish -c 'source \"" + (dir / "blockgtq.fish").string() +
              "\"; complete -C \"" + line + "\"' | cut -f1 | tr '\\n' ' '");
    CHECK(o.err.empty());
    return o.out;
  };
  CHECK(completed("blockgtq calib") == "calibrate ");
  CHECK(completed("blockgtq bench dec") == "decode ");
  CHECK(completed("blockgtq calibrate --min") == "--min-bits ");
  CHECK(completed("blockgtq calibrate --resume n") == "never ");
  CHECK(completed("blockgtq tokenize --min") == "");
}

TEST_CASE("zsh completes commands, options and values") {
  if (!installed("zsh")) {
    WARN("skipped: no zsh");
    return;
  }
  TempFolder dir;
  put_file(dir / "_blockgtq", good({"completion", "zsh"}).out);
  // A shell of its own behind a pseudo-terminal; the key ^X tells what stands on the line.
  put_file(dir / "drive", R"(zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= fpath=($1 \$fpath); autoload -U compinit; compinit -u -d $1/dump; bindkey '^I' complete-word"
zpty -w shell 'show() { print -r -- "<${BUFFER}>"; BUFFER=; zle accept-line }; zle -N show; bindkey "^X" show'
zpty -w -n shell "$2"$'\t\C-x'
while zpty -r shell line; do [[ $line == *'<blockgtq '* ]] && print -r -- "${line##*<}" && break; done
zpty -d shell
)");
  const auto completed = [&](const std::string& line) {
    const Outcome o = shell("timeout 60 zsh -f '" + (dir / "drive").string() + "' '" + dir.path().string() +
                            "' '" + line + "'");
    return o.out.substr(0, o.out.find('>'));
  };
  CHECK(completed("blockgtq calib") == "blockgtq calibrate ");
  CHECK(completed("blockgtq bench dec") == "blockgtq bench decode ");
  CHECK(completed("blockgtq calibrate --min-b") == "blockgtq calibrate --min-bits ");
  CHECK(completed("blockgtq calibrate --resume n") == "blockgtq calibrate --resume never ");
  CHECK(completed("blockgtq tokenize --min-b") == "blockgtq tokenize --min-b");
}

TEST_CASE("--version --json says what the binary was built of") {
  const Json json = Json::parse(good({"--version", "--json"}).out);
  CHECK(json.at("schema") == "blockgtq.version/1");
  CHECK("blockgtq " + json.at("version").get<std::string>() + "\n" == good({"--version"}).out);
  CHECK(Json::parse(good({"--json", "--version"}).out) == json);
  for (const char* key : {"commit", "compiler", "build_type", "processor", "cuda_architectures"})
    CHECK(json.contains(key));
  for (const auto& [name, version] : json.at("libraries").items()) {
    CAPTURE(name);
    CHECK_FALSE(version.get<std::string>().empty());
  }
  // --json of a command is another option, and without --version there is none.
  for (const std::vector<std::string>& args : {std::vector<std::string>{"--json"}, {"doctor", "--json"}}) {
    const Outcome o = blockgtq(args);
    CHECK(o.code == 2);
    CHECK(error_lines(o) == 1);
  }
}

}  // namespace blockgtq
