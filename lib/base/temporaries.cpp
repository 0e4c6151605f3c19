#include "base/temporaries.h"

#include <limits.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/file.h"

namespace blockgtq {
namespace {

// Only static arrays and lock-free atomics, because the handler of a second SIGINT reads them whatever was
// interrupted.
enum State : int { kFree, kClaimed, kLive };
struct Slot {
  std::atomic<int> state{kFree};
  char path[PATH_MAX];
};
static_assert(std::atomic<int>::is_always_lock_free);

constexpr int kSlots = 64;
std::array<Slot, kSlots> slots;

}  // namespace

std::filesystem::path temporary_of(const std::filesystem::path& target) {
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  return folder / fmt::format(".{}.{}.tmp", target.filename().string(), getpid());
}

std::filesystem::path target_of(const std::filesystem::path& path) {
  const std::string name = path.filename().string(), end = fmt::format(".{}.tmp", getpid());
  if (!name.starts_with('.') || !name.ends_with(end) || name.size() < end.size() + 2) return path;
  const std::string target = name.substr(1, name.size() - 1 - end.size());
  return path.parent_path() == "." ? std::filesystem::path(target) : path.parent_path() / target;
}

int claim_temporary(const std::filesystem::path& path) {
  const std::string text = path.string();
  if (text.size() >= PATH_MAX) {
    fail_output("{}...: path too long: {} bytes, at most {}", text.substr(0, 64), text.size(), PATH_MAX - 1);
  }
  for (int i = 0; i < kSlots; ++i) {
    int expected = kFree;
    if (!slots[i].state.compare_exchange_strong(expected, kClaimed)) continue;
    std::memcpy(slots[i].path, text.c_str(), text.size() + 1);
    return i;
  }
  throw std::logic_error("more than 64 outputs open at once");
}

void set_temporary_live(int slot) {
  slots[slot].state.store(kLive);
}

void forget_temporary(int slot) noexcept {
  slots[slot].state.store(kFree);
}

void remove_temporaries() noexcept {
  const int saved = errno;  // the interrupted code may be about to read it
  for (Slot& s : slots) {
    if (s.state.load() == kLive) unlink(s.path);
  }
  errno = saved;
}

}  // namespace blockgtq
