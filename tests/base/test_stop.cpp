#include "base/stop.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "catch.h"
#include "expect_error.h"
#include "temp_folder.h"

using namespace blockgtq;

namespace {

struct Handlers {  // the test framework has its own
  struct sigaction old[3];
  static constexpr int kSignals[3] = {SIGINT, SIGTERM, SIGUSR1};
  Handlers() {
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], nullptr, &old[i]);
    install_stop_handlers();
  }
  ~Handlers() {
    install_stop_handlers();  // forgets the signals of the test
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &old[i], nullptr);
  }
};

}  // namespace

TEST_CASE("work stops at the next check after a signal") {
  const Handlers handlers;
  CHECK_NOTHROW(check_stop());
  SECTION("SIGINT") {
    raise(SIGINT);
    CHECK(expect_error(Exit::interrupted, check_stop) == "interrupted by signal SIGINT");
    CHECK_THROWS_AS(check_stop(), Error);  // every loop that asks is told
  }
  SECTION("SIGTERM") {
    raise(SIGTERM);
    CHECK(expect_error(Exit::stopped, check_stop) == "stopped by signal SIGTERM");
  }
  SECTION("SIGUSR1") {
    raise(SIGUSR1);
    CHECK(expect_error(Exit::stopped, check_stop) == "stopped by signal SIGUSR1");
  }
  SECTION("the first signal says why") {
    raise(SIGTERM);
    raise(SIGINT);
    CHECK(expect_error(Exit::stopped, check_stop) == "stopped by signal SIGTERM");
  }
  SECTION("SIGTERM again is no reason to hurry") {
    raise(SIGTERM);
    raise(SIGTERM);
    CHECK_THROWS_AS(check_stop(), Error);
  }
}

TEST_CASE("a second SIGINT ends the process and removes its temporary outputs") {
  const TempFolder folder;
  const pid_t pid = fork();
  if (pid == 0) {
    install_stop_handlers();
    OutputFile a(folder / "a", false), b(folder / "b", false);
    raise(SIGINT);
    if (folder.entries() != 2) _exit(1);
    raise(SIGINT);
    _exit(2);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
  CHECK(folder.entries() == 0);
}
