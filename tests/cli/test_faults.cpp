// Calls of the C library that fail, one after the other, and SIGKILL in their place. Commands that take next
// to nothing stand for all here; tests/faults/soak.py does this to every command.
#include <fmt/format.h>
#include <signal.h>
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "faults/board.h"

namespace blockgtq {
namespace {

using Args = std::vector<std::string>;
using Files = std::map<std::string, std::string>;

constexpr bool kSanitized =
#ifdef __SANITIZE_ADDRESS__
    true;  // its library would have to be loaded first
#else
    false;
#endif

bool skipped() {
  if (kSanitized) WARN("skipped: not with a sanitizer");
  return kSanitized;
}

struct Faulty {
  Outcome outcome;
  uint64_t calls[kFaultKinds], failed;
  std::string path;
};

Faulty run_faulty(const Args& args, const std::string& faults) {
  const TempFolder folder;
  const std::string file = folder / "board";
  put_file(file, std::string(sizeof(FaultBoard), '\0'));
  Faulty ended{blockgtq(args, {"LD_PRELOAD=" BLOCKGTQ_FAULTS, "FAULTS=" + faults, "FAULTS_BOARD=" + file,
                               "OMP_WAIT_POLICY=passive", "OMP_STACKSIZE=8M"}),
               {},
               0,
               ""};
  const std::string bytes = get_file(file);
  const auto* board = reinterpret_cast<const FaultBoard*>(bytes.data());
  std::copy(std::begin(board->calls), std::end(board->calls), ended.calls);
  ended.failed = board->failed;
  ended.path = board->path;
  return ended;
}

Files files_of(const TempFolder& dir) {
  Files files;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    files[entry.path().filename().string()] = get_file(entry.path());
  return files;
}

struct Command {
  Args args;
  std::vector<std::string> options, names;  // of its outputs

  Args to(const TempFolder& dir) const {
    Args all = args;
    for (size_t i = 0; i < names.size(); ++i) {
      all.push_back(options[i]);
      all.push_back(dir / names[i]);
    }
    all.insert(all.end(), {"-t", "1"});
    return all;
  }
};

/// One call fails: all is done all the same, or nothing has changed and one line says why.
void check_fault(const Command& command, const std::string& faults, const Files& before, const Files& after,
                 int expected) {
  const TempFolder dir;
  for (const auto& [name, bytes] : before) put_file(dir / name, bytes);
  Args args = command.to(dir);
  if (!before.empty()) args.push_back("--force");
  const Faulty ended = run_faulty(args, faults);
  if (ended.failed == 0) return;
  CAPTURE(command.args[0], faults, ended.path, ended.outcome.err);
  const Files left = files_of(dir);
  if (ended.outcome.code == 0) {
    CHECK(left == after);
    return;
  }
  // HDF5 first reads a file in a child, whose failure is the file's.
  if (expected && ended.outcome.err.find("damaged: ") != std::string::npos) expected = 3;
  const bool ours = ended.path.starts_with(dir.path().string());
  CHECK(ended.outcome.code == (expected ? expected : ours ? 4 : 3));
  CHECK(error_lines(ended.outcome) == 1);
  CHECK(left == before);
}

/// Every call of these kinds fails once, where there are older files or none.
void check_faults(const Command& command, const std::vector<std::pair<FaultKind, std::string>>& kinds,
                  bool replaces) {
  const TempFolder clean;
  const Faulty counted = run_faulty(command.to(clean), "");
  REQUIRE(counted.outcome.code == 0);
  const Files after = files_of(clean);
  REQUIRE(after.size() == command.names.size());
  Files older;
  for (const std::string& name : command.names)
    if (replaces) older[name] = "older\n";
  for (const auto& [kind, how] : kinds)
    for (uint64_t n = 1; n <= counted.calls[kind] + 2; ++n)
      check_fault(command, fmt::format("{},{},{}", kFaultNames[kind], n, how), older, after, 0);
}

Command correlation(const TempFolder& inputs) {
  return {{"correlate", inputs / "eval.json", "--with", inputs / "kl.json"},
          {"--json", "--csv", "--md"},
          {"e.json", "e.csv", "e.md"}};
}

Command export_csv(const TempFolder& inputs) {
  return {{"export-bitmap", inputs / "map.h5", "--bits", "2"}, {"-o"}, {"map.csv"}};
}

/// The map and the results that the commands here read.
void make_inputs(const TempFolder& dir) {
  const Args run_of = {"-m", model("tiny-llama"), "-f", text("calibration"), "--tokens",
                       "64", "--chunk",           "32"};
  const auto run = [&](const std::string& command, const Args& more) {
    Args args = {command, "-q"};
    args.insert(args.end(), run_of.begin(), run_of.end());
    args.insert(args.end(), more.begin(), more.end());
    good(args);
  };
  run("calibrate", {"--bits", "2,3", "-o", dir / "map.h5"});
  run("eval-logits", {"--map", dir / "map.h5", "--json", dir / "eval.json"});
  run("perplexity", {"--map", dir / "map.h5", "--k-method", "tq-mse,block-gtq", "--pairs", "K2,K3", "--json",
                     dir / "kl.json"});
}

std::string number(int error, const char* more = "") {
  return std::to_string(error) + more;
}

}  // namespace

TEST_CASE("a call that fails: everything is written, or nothing has changed and one line says why") {
  if (skipped()) return;
  const TempFolder inputs;
  make_inputs(inputs);
  const std::pair<FaultKind, std::string> full{kWrite, number(ENOSPC)}, sync{kSync, number(EIO)},
      rename{kRename, number(EACCES)}, close{kClose, number(EIO)}, lookup{kStat, number(EIO)};
  check_faults(correlation(inputs), {full, sync, rename, {kRename, number(EINVAL)}, lookup}, false);
  check_faults(correlation(inputs), {sync, rename, {kLink, number(EPERM)}, close}, true);
  check_faults(export_csv(inputs), {{kOpen, number(EMFILE)}, {kWrite, "short"}, lookup}, true);
}

TEST_CASE("memory that runs out is one line and exit code 5, also where C++ cannot throw") {
  if (skipped()) return;
  const TempFolder inputs;
  make_inputs(inputs);
  const auto check_memory = [&](const Command& command, std::initializer_list<const char*> hows) {
    const TempFolder clean;
    const Faulty counted = run_faulty(command.to(clean), "");
    const Files after = files_of(clean);
    REQUIRE(counted.calls[kMemory] > 100);
    for (const char* how : hows)
      for (const FaultKind kind : {kMemory, kBlock})
        for (uint64_t n = 1; n <= counted.calls[kind]; n += counted.calls[kind] / 20 + 1)
          check_fault(command, fmt::format("{},{},{}", kFaultNames[kind], n, how), {}, after, 5);
  };
  const std::string once = number(ENOMEM), from_then_on = number(ENOMEM, "+");
  check_memory(correlation(inputs), {once.c_str(), from_then_on.c_str()});
  check_memory(export_csv(inputs), {once.c_str()});  // libhdf5 does not survive more
  // A tokenizer.json is parsed: nlohmann-json asks for memory in a destructor.
  for (int n = 1; n <= 20; ++n) {
    const Faulty ended =
        run_faulty({"tokenize", "-m", model("tiny-llama"), "-f", text("calibration"), "-t", "1"},
                   fmt::format("block,{},{}", n, once));
    CAPTURE(n, ended.outcome.err);
    CHECK(ended.outcome.code == (ended.failed ? 5 : 0));
    CHECK(error_lines(ended.outcome) == (ended.failed ? 1 : 0));
  }
}

TEST_CASE("a library that ends the program for want of threads leaves code 5 and no file") {
  if (skipped()) return;
  const TempFolder dir;
  const Faulty ended = run_faulty({"energy", "-q", "-m", model("tiny-llama"), "-f", text("calibration"),
                                   "--tokens", "32", "-o", dir / "stats.h5", "-t", "2"},
                                  "thread,1," + number(EAGAIN, "+"));
  CAPTURE(ended.outcome.err);
  REQUIRE(ended.failed > 0);
  CHECK(ended.outcome.code == 5);
  CHECK(error_lines(ended.outcome) == 1);
  CHECK(dir.entries() == 0);
}

TEST_CASE("killed at any call that changes files, run again: the same bytes and nothing else") {
  if (skipped()) return;
  const TempFolder inputs, clean;
  good({"dump", "-q", "-m", model("tiny-llama"), "-f", text("calibration"), "--tokens", "32", "-o",
        inputs / "acts.h5"});
  const Command command = {
      {"energy", inputs / "acts.h5", "--checkpoint-seconds", "0", "-q"}, {"-o"}, {"stats.h5"}};
  const Faulty counted = run_faulty(command.to(clean), "");
  const Files after = files_of(clean);
  for (const FaultKind kind : {kRename, kLink, kUnlink})
    for (uint64_t n = 1; n <= counted.calls[kind]; n += 2) {
      const TempFolder dir;
      const Faulty killed = run_faulty(command.to(dir), fmt::format("{},{},kill", kFaultNames[kind], n));
      CAPTURE(kFaultNames[kind], n, killed.path);
      CHECK(killed.outcome.code == 128 + SIGKILL);
      Args again = command.to(dir);
      if (const Files left = files_of(dir); left.count("stats.h5")) {
        CHECK(left.at("stats.h5") == after.at("stats.h5"));
        again.push_back("--force");
      }
      good(again);
      CHECK(files_of(dir) == after);
    }
}

}  // namespace blockgtq
