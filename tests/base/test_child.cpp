// What may go wrong in a child process, and that it stays there.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "base/child.h"
#include "base/stop.h"
#include "catch.h"
#include "temp_folder.h"

using namespace blockgtq;
using How = ChildEnd::How;

TEST_CASE("a child that ends well", "[child]") {
  int here = 1;
  CHECK(run_in_child({}, [&] { here = 2; }).how == How::done);
  CHECK(here == 1);  // what it changes is lost
  for (int i = 0; i < 50; ++i) CHECK(run_in_child({}, [] {}).how == How::done);
}

TEST_CASE("an error in a child is that error here", "[child]") {
  const std::string text = "file: wrong: " + std::string(100000, 'x');  // more than a pipe holds at once
  const ChildEnd end = run_in_child({}, [&] { throw Error(Exit::nonfinite, text, "a hint"); });
  CHECK(end.how == How::failed);
  REQUIRE(end.error);
  CHECK(end.error->code == Exit::nonfinite);
  CHECK(end.error->hint == "a hint");
  const bool same = end.error->what() == text;
  CHECK(same);
}

TEST_CASE("a child that crashes", "[child]") {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGKILL}) {
    const ChildEnd end = run_in_child({}, [&] { raise(signal); });
    CAPTURE(signal);
    CHECK(end.how == How::crashed);
    CHECK(end.signal == signal);
  }
  CHECK(run_in_child({}, [] { _exit(0); }).how == How::crashed);  // it ended before its body did
  CHECK(run_in_child({}, [] { throw std::logic_error("not a user's mistake"); }).signal == SIGABRT);
}

TEST_CASE("a child's crash is silent", "[child]") {
  TempFolder folder;
  const std::string path = folder / "streams";
  const int file = open(path.c_str(), O_RDWR | O_CREAT, 0600), out = dup(1), err = dup(2);
  dup2(file, 1);
  dup2(file, 2);
  const ChildEnd end = run_in_child({}, [] {
    for (const int stream : {1, 2})
      if (write(stream, "heard\n", 6) < 0) _exit(0);
    std::abort();
  });
  dup2(out, 1);
  dup2(err, 2);
  for (const int fd : {file, out, err}) close(fd);
  CHECK(end.signal == SIGABRT);
  CHECK(get_file(path).empty());
}

TEST_CASE("a child that does not end", "[child]") {
  ChildLimits limits;
  limits.seconds = 1;
  const ChildEnd end = run_in_child(limits, [] {
    for (volatile int i = 0;; i = i + 1) {
    }
  });
  CHECK(end.how == How::late);
}

TEST_CASE("a child that asks for too much memory", "[child]") {
  ChildLimits limits;
  limits.bytes = 64 << 20;
  // Through a volatile pointer: memory that nobody looks at need not be asked for.
  const auto ask = [](size_t bytes) {
    std::vector<char> memory(bytes, 'x');
    char* volatile seen = memory.data();
    *seen = 'y';
  };
  CHECK(run_in_child(limits, [&] { ask(16 << 20); }).how == How::done);
#if !defined(__SANITIZE_ADDRESS__)  // which ends the process instead of throwing
  CHECK(run_in_child(limits, [&] { ask(size_t(128) << 20); }).how == How::no_memory);
#endif
}

TEST_CASE("a stop while a child runs ends both", "[child]") {
  install_stop_handlers();
  const pid_t here = getpid();
  bool stopped = false;
  try {
    run_in_child({}, [&] {
      kill(here, SIGTERM);
      for (;;) pause();  // a child that would never end
    });
  } catch (const Error& e) {
    stopped = e.code == Exit::stopped;
  }
  CHECK(stopped);
  install_stop_handlers();  // forgets the signal
}

TEST_CASE("no process to be had is an error of the machine", "[child]") {
  const ChildEnd end = run_in_child({}, [] {  // the limit ends with this child
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_NOFILE, &none);
    run_in_child({}, [] {});
  });
  REQUIRE(end.how == How::failed);
  CHECK(end.error->code == Exit::device);
  CHECK_THAT(end.error->what(), ContainsSubstring("no child process can be started: "));
}
