#include "base/mapped_ranges.h"

#include <limits.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace blockgtq {
namespace {

// Only static arrays and lock-free atomics, because the handler reads them whatever was interrupted.
constexpr uintptr_t kFree = 0, kClaimed = 1;  // no mapping begins at either
struct Range {
  std::atomic<uintptr_t> begin{kFree};
  uintptr_t end;
  char* path;
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

constexpr int kRanges = 4096;
std::array<Range, kRanges> ranges;

/// Text of a fixed capacity; the rest is cut off.
struct Line {
  char text[PATH_MAX + 128];
  size_t size = 0;

  void add(const char* more) {
    for (; *more && size < sizeof text; ++more) text[size++] = *more;
  }
  /// File names may hold anything. None may break the line or control the terminal.
  void add_name(const char* name) {
    for (; *name && size < PATH_MAX; ++name)
      text[size++] = uint8_t(*name) < 0x20 || *name == 0x7f ? '?' : *name;
  }
};

void on_bus_error(int, siginfo_t* info, void*) {
  const uintptr_t at = uintptr_t(info->si_addr);
  for (const Range& range : ranges) {
    const uintptr_t begin = range.begin.load();
    if (begin <= kClaimed || at < begin || at >= range.end) continue;
    static std::atomic<bool> told{false};
    while (told.exchange(true)) pause();  // another thread is printing it, and about to end the process
    Line line;
    termios terminal;
    if (tcgetattr(STDERR_FILENO, &terminal) == 0) line.add("\r\x1b[K");  // overwrites a progress bar
    line.add("error: ");
    line.add_name(range.path);
    line.add(": cannot be read any more: it became shorter, or its disk failed\n");
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, line.text, line.size);
    remove_temporaries();
    _exit(int(Exit::input));
  }
  signal(SIGBUS,
         SIG_DFL);  // the access is repeated, and ends the process as it would have without the handler
}

}  // namespace

void claim_range(const void* begin, size_t bytes, const std::string& path) {
  for (Range& range : ranges) {
    uintptr_t expected = kFree;
    if (!range.begin.compare_exchange_strong(expected, kClaimed)) continue;
    range.end = uintptr_t(begin) + bytes;
    range.path = strdup(path.c_str());
    range.begin.store(range.path ? uintptr_t(begin) : kFree);
    return;
  }
}

void forget_range(const void* begin) noexcept {
  for (Range& range : ranges) {
    uintptr_t expected = uintptr_t(begin);
    if (!range.begin.compare_exchange_strong(expected, kClaimed)) continue;
    std::free(range.path);
    range.begin.store(kFree);
    return;
  }
}

void install_bus_error_handler() {
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  check(sigaction(SIGBUS, &action, nullptr) == 0, "sigaction failed");
}

}  // namespace blockgtq
