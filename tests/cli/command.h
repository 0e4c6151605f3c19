#pragma once
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/temp_folder.h"
#include "catch.h"

namespace blockgtq {

struct Outcome {
  int code = -1;
  std::string out, err;
  long kilobytes = 0;  // the most memory that it held; of run() only
};

/// Runs a program, args[0], as a user would: arguments as given, both streams caught, the exit code or 128 +
/// signal. `environment` holds NAME=VALUE settings beside the inherited ones.
inline Outcome run(std::vector<std::string> args, const std::vector<std::string>& environment = {}) {
  TempFolder folder;
  const std::string out = folder / "out", err = folder / "err";
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::vector<char*> argv;
    for (std::string& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    for (const std::string& setting : environment) putenv(const_cast<char*>(setting.c_str()));
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  rusage used{};
  wait4(child, &status, 0, &used);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), get_file(out), get_file(err),
          used.ru_maxrss};
}

/// Runs the built binary.
inline Outcome blockgtq(const std::vector<std::string>& args,
                        const std::vector<std::string>& environment = {}) {
  std::vector<std::string> all = {BLOCKGTQ_BINARY};
  all.insert(all.end(), args.begin(), args.end());
  return run(std::move(all), environment);
}

/// Runs a line of bash in which $BLOCKGTQ is the binary: for pipes and for descriptors that are closed or
/// full.
inline Outcome shell(const std::string& line) {
  TempFolder folder;
  const std::string out = folder / "out", err = folder / "err", script = folder / "script";
  put_file(script, "BLOCKGTQ='" BLOCKGTQ_BINARY "'\n" + line + "\n");
  const int status = std::system(("bash '" + script + "' >'" + out + "' 2>'" + err + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), get_file(out), get_file(err)};
}

/// Runs it and requires success.
inline Outcome good(const std::vector<std::string>& args, const std::vector<std::string>& environment = {}) {
  Outcome outcome = blockgtq(args, environment);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return outcome;
}

/// Whether two files hold the same bytes; a plain comparison would print them.
inline bool same_bytes(const std::string& a, const std::string& b) {
  return get_file(a) == get_file(b);
}

/// Lines of stderr that begin with `start`.
inline int lines_of(const Outcome& outcome, const std::string& start) {
  int n = 0;
  std::istringstream lines(outcome.err);
  for (std::string line; std::getline(lines, line);) n += line.rfind(start, 0) == 0;
  return n;
}
inline int error_lines(const Outcome& outcome) {
  return lines_of(outcome, "error: ");
}
inline int warning_lines(const Outcome& outcome) {
  return lines_of(outcome, "warning: ");
}

inline std::string model(const std::string& name) {
  return BLOCKGTQ_SOURCE_DIR "/data/models/" + name;
}
inline std::string text(const std::string& name) {
  return BLOCKGTQ_SOURCE_DIR "/data/texts/" + name + ".txt";
}

}  // namespace blockgtq
