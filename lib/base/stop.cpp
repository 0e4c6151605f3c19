#include "base/stop.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/mapped_ranges.h"

namespace blockgtq {
namespace {

std::atomic<int> first_signal{0};
std::atomic<int> interrupts{0};

void on_signal(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT && interrupts.fetch_add(1) > 0) {
    remove_temporaries();
    _exit(int(Exit::interrupted));
  }
}

}  // namespace

void install_stop_handlers() {
  first_signal = 0;
  interrupts = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads and writes continue: only check_stop() stops work
  sigemptyset(&action.sa_mask);
  for (int s : {SIGINT, SIGTERM, SIGUSR1}) {
    check(sigaction(s, &action, nullptr) == 0, "sigaction failed");
  }
  install_bus_error_handler();
}

void check_stop() {
  switch (first_signal.load(std::memory_order_relaxed)) {
    case 0:
      return;
    case SIGINT:
      throw Error(Exit::interrupted, "interrupted by signal SIGINT");
    case SIGTERM:
      throw Error(Exit::stopped, "stopped by signal SIGTERM");
    default:
      throw Error(Exit::stopped, "stopped by signal SIGUSR1");
  }
}

bool stop_pending() {
  const int signal = first_signal.load(std::memory_order_relaxed);
  return signal == SIGTERM || signal == SIGUSR1;
}

}  // namespace blockgtq
