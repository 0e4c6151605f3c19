#pragma once
#include <signal.h>

#include <chrono>
#include <functional>
#include <thread>

#include "cli/command.h"

namespace blockgtq {

/// Runs the built binary and sends it a signal as soon as `reached` says so. Returns the exit code, or 128 +
/// the signal that ended it.
inline int run_killed(std::vector<std::string> args, const std::function<bool()>& reached,
                      int signal = SIGKILL) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    args.insert(args.begin(), BLOCKGTQ_BINARY);
    std::vector<char*> argv;
    for (std::string& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  bool ended = false;
  while (!reached() && !(ended = waitpid(child, &status, WNOHANG) != 0))
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  if (!ended) {
    kill(child, signal);
    waitpid(child, &status, 0);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace blockgtq
