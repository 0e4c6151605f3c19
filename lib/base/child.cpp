#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <string>

#include "base/stop.h"

namespace blockgtq {
namespace {

constexpr int kWallFactor =
    20;  // wall time is this factor times processor time, because a busy machine is not the body's fault
constexpr int kPollMs = 100;
// The child answers with one of these letters; behind kFailed follow the error's code, text, NUL and hint. A
// child that crashed answers nothing.
constexpr char kDone = 'd', kFailed = 'f', kNoMemory = 'm';

/// Ends the child at the end of its scope, if it has not ended by then.
class Child {
 public:
  explicit Child(pid_t id) : id_(id) {}
  Child(const Child&) = delete;
  ~Child() {
    if (id_ <= 0) return;
    kill(id_, SIGKILL);
    wait();
  }
  /// The wait status of the child; 0 where the system keeps none (SIGCHLD is ignored).
  int wait() {
    int status = 0;
    while (waitpid(id_, &status, 0) < 0 && errno == EINTR) {
    }
    id_ = -1;
    return status;
  }

 private:
  pid_t id_;
};

struct Descriptor {
  int id = -1;
  ~Descriptor() { reset(); }
  void reset() {
    if (id >= 0) close(id);
    id = -1;
  }
};

void set_limit(int resource, rlim_t soft, rlim_t hard) {
  rlimit now{};
  if (getrlimit(resource, &now) != 0) return;
  const rlimit wanted = {std::min(soft, now.rlim_max), std::min(hard, now.rlim_max)};
  setrlimit(resource, &wanted);
}

/// The address space of this process, including what sanitizers and device drivers reserve.
uint64_t address_space() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * uint64_t(sysconf(_SC_PAGESIZE));
}

/// In the child: it ends with its parent, leaves signals to the parent, and crashes silently.
void confine(pid_t parent, const ChildLimits& limits) {
  const rlim_t bytes = address_space() + limits.bytes;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  setsid();  // without a terminal: neither Ctrl-C nor the C library's last words go to or from the child
  for (const int s : {SIGINT, SIGTERM, SIGUSR1, SIGHUP}) std::signal(s, SIG_IGN);
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU}) std::signal(s, SIG_DFL);
  std::set_terminate(std::abort);  // the parent's outputs are not the child's to remove
  prctl(PR_SET_DUMPABLE, 0);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, stream);
  set_limit(RLIMIT_CPU, rlim_t(limits.seconds), rlim_t(limits.seconds) + 1);
  set_limit(RLIMIT_AS, bytes, bytes);
}

void send(int out, const std::string& answer) {
  for (size_t at = 0; at < answer.size();) {
    const ssize_t n = write(out, answer.data() + at, answer.size() - at);
    if (n < 0 && errno != EINTR) return;
    at += size_t(std::max<ssize_t>(n, 0));
  }
}

/// Runs the body and returns the answer. Any other exception is a crash, because it must not leave the
/// child's part of the code.
std::string answer_of(const std::function<void()>& body) noexcept {
  try {
    body();
    return std::string(1, kDone);
  } catch (const Error& e) {
    return std::string{kFailed, char(e.code)} + e.what() + '\0' + e.hint;
  } catch (const std::bad_alloc&) {
    return std::string(1, kNoMemory);
  }
}

/// What the child writes before it closes its end of the pipe; none where it is still open at the deadline.
std::optional<std::string> receive(int in, std::chrono::steady_clock::time_point deadline) {
  std::string answer;
  while (std::chrono::steady_clock::now() < deadline) {
    check_stop();
    pollfd one = {in, POLLIN, 0};
    if (poll(&one, 1, kPollMs) <= 0) continue;
    char buffer[4096];
    const ssize_t n = read(in, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return answer;
    answer.append(buffer, size_t(n));
  }
  return std::nullopt;
}

ChildEnd end_of(const std::string& answer, int status) {
  using How = ChildEnd::How;
  if (answer.empty()) {
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return {signal == SIGXCPU ? How::late : How::crashed, std::nullopt, signal};
  }
  if (answer[0] == kDone) return {};
  if (answer[0] == kNoMemory) return {How::no_memory, std::nullopt, 0};
  const size_t end = answer.find('\0', 2);
  check(answer[0] == kFailed && end != std::string::npos, "answer of a child");
  return {How::failed, Error(Exit(answer[1]), answer.substr(2, end - 2), answer.substr(end + 1)), 0};
}

}  // namespace

ChildEnd run_in_child(const ChildLimits& limits, const std::function<void()>& body) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kWallFactor * limits.seconds);
  const auto fail = [] {
    throw Error(Exit::device, fmt::format("no child process can be started: {}", std::strerror(errno)));
  };
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail();
  Descriptor in{ends[0]}, out{ends[1]};
  const pid_t parent = getpid(), id = fork();
  if (id < 0) fail();
  if (id == 0) {
    confine(parent, limits);
    send(out.id, answer_of(body));
    _exit(0);  // without exit handlers, which are the parent's
  }
  Child child(id);
  out.reset();
  const std::optional<std::string> answer = receive(in.id, deadline);
  if (!answer) return {ChildEnd::How::late, std::nullopt, 0};
  return end_of(*answer, child.wait());
}

}  // namespace blockgtq
