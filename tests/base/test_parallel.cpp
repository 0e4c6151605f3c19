#include "base/parallel.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "catch.h"
#include "expect_error.h"

using namespace blockgtq;

namespace {

struct Threads {  // puts the automatic number back
  explicit Threads(int n) { set_threads(n); }
  ~Threads() { set_threads(0); }
};

}  // namespace

TEST_CASE("parallel_for runs every piece once") {
  for (const int n_threads : {1, 2, 5}) {
    const Threads guard(n_threads);
    for (const size_t n : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> runs(n);
      parallel_for(n, [&](size_t i) { ++runs[i]; });
      size_t wrong = 0;
      for (const auto& r : runs) wrong += r != 1;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("parallel_for uses the threads it is given") {
  const Threads guard(3);
  CHECK(threads() == 3);
  // Each piece waits for the two others: they end only when three threads run.
  std::atomic<int> here{0};
  parallel_for(3, [&](size_t) {
    ++here;
    while (here < 3) std::this_thread::yield();
  });
  CHECK(here == 3);
}

TEST_CASE("nested loops run on their own thread") {
  const Threads guard(4);
  std::atomic<int> foreign{0}, runs{0};
  parallel_for(4, [&](size_t) {
    const auto mine = std::this_thread::get_id();
    parallel_for(10, [&](size_t) {
      ++runs;
      if (std::this_thread::get_id() != mine) ++foreign;
    });
  });
  CHECK(runs == 40);
  CHECK(foreign == 0);
}

TEST_CASE("the exception of the lowest piece is rethrown") {
  for (const int n_threads : {1, 2, 4}) {
    const Threads guard(n_threads);
    for (int round = 0; round < 50; ++round) {
      const auto work = [&] {
        parallel_for(100, [&](size_t i) {
          if (i == 7) std::this_thread::yield();  // lets a higher one fail first
          if (i % 10 == 7) fail_input("piece {}", i);
        });
      };
      CHECK(expect_error(Exit::input, work) == "piece 7");
    }
    // A loop that failed does not spoil the next.
    std::atomic<int> runs{0};
    parallel_for(10, [&](size_t) { ++runs; });
    CHECK(runs == 10);
    CHECK_THROWS_AS(parallel_for(2, [](size_t) { throw 5; }), int);
  }
}

TEST_CASE("the number of threads") {
  cpu_set_t set;
  REQUIRE(sched_getaffinity(0, sizeof set, &set) == 0);
  set_threads(0);
  CHECK(threads() >= 1);
  CHECK(threads() <= CPU_COUNT(&set));

  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) {
      CPU_SET(i, &one);
      break;
    }
  }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  set_threads(0);
  CHECK(threads() == 1);
  REQUIRE(sched_setaffinity(0, sizeof set, &set) == 0);

  set_threads(1024);
  CHECK(threads() == 1024);
  CHECK(expect_error(Exit::usage, [] { set_threads(1025); }) ==
        "threads: out of range: 1025, allowed 0 to 1024");
  CHECK_THAT(expect_error(Exit::usage, [] { set_threads(-1); }), ContainsSubstring("-1"));
  CHECK(threads() == 1024);
  set_threads(0);
}

TEST_CASE("OMP_NUM_THREADS is obeyed where no number is given") {
  const std::pair<const char*, int> cases[] = {{"3", 3}, {"5,2", 5}, {"1", 1}, {"99999", 1024}};
  for (const auto& [value, expected] : cases) {
    setenv("OMP_NUM_THREADS", value, 1);
    set_threads(0);
    CHECK(threads() == expected);
    set_threads(2);
    CHECK(threads() == 2);
  }
  unsetenv("OMP_NUM_THREADS");
  set_threads(0);
  const int automatic = threads();
  for (const char* value : {"", "0", "-1", "many", "99999999999999999999"}) {
    setenv("OMP_NUM_THREADS", value, 1);
    set_threads(0);
    CHECK(threads() == automatic);
  }
  unsetenv("OMP_NUM_THREADS");
  set_threads(0);
}

TEST_CASE("loops of several threads at a time") {
  const Threads guard(3);
  std::atomic<int> runs{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) parallel_for(7, [&](size_t) { ++runs; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(runs == 4 * 200 * 7);
}

TEST_CASE("a child of fork() has the loops, too") {
  const Threads guard(3);
  parallel_for(3, [](size_t) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> runs{0};
    parallel_for(10, [&](size_t) { ++runs; });
    _exit(runs);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 10);
}
