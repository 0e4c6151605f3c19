#include "base/parallel.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr int kMaxThreads = 1024;

int affinity_processors() {
  // The set grows until it is as large as the kernel's.
  for (int n = 1024; n <= (1 << 20); n *= 2) {
    cpu_set_t* set = CPU_ALLOC(n);
    if (!set) break;
    const size_t size = CPU_ALLOC_SIZE(n);
    const bool ok = sched_getaffinity(0, size, set) == 0;
    const bool too_small = !ok && errno == EINVAL;
    const int count = ok ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (ok) return std::max(1, count);
    if (!too_small) break;
  }
  return 1;
}

/// Processors that the CPU quota of this process's control groups (version 2) allows; 0 without a quota.
int quota_processors() {
  std::ifstream groups("/proc/self/cgroup");
  std::string line, group;
  while (std::getline(groups, line)) {
    if (line.starts_with("0::/")) group = line.substr(4);
  }
  const std::filesystem::path root = "/sys/fs/cgroup";
  double least = 0;
  for (std::filesystem::path p = root / group;; p = p.parent_path()) {
    std::ifstream file(p / "cpu.max");  // "max 100000" or "150000 100000": microseconds per period
    double quota = 0, period = 0;
    if (file >> quota >> period && quota > 0 && period > 0) {
      const double processors = quota / period;
      if (least == 0 || processors < least) least = processors;
    }
    if (p == root || !p.has_relative_path()) break;
  }
  return int(std::ceil(least));
}

/// The first number of OMP_NUM_THREADS ("4" or "4,2"), by which a batch system tells a job what it may use; 0
/// where it is not set.
int asked_by_environment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  int n = 0;
  if (text) std::from_chars(text, text + std::strlen(text), n);
  return std::clamp(n, 0, kMaxThreads);
}

int automatic_threads() {
  if (const int asked = asked_by_environment(); asked > 0) return asked;
  int n = affinity_processors();
  if (const int quota = quota_processors(); quota > 0) n = std::min(n, quota);
  return std::min(n, kMaxThreads);
}

std::atomic<int> n_threads{0};  // 0: not asked for yet

}  // namespace

void set_threads(int n) {
  if (n < 0 || n > kMaxThreads) {
    throw Error(Exit::usage, fmt::format("threads: out of range: {}, allowed 0 to {}", n, kMaxThreads));
  }
  n_threads = n > 0 ? n : automatic_threads();
}

int threads() {
  int n = n_threads;
  if (n == 0) n_threads = n = automatic_threads();
  return n;
}

void use_sleeping_threads(char** argv) {
  bool changed = false;
  for (const auto& [name, value] :
       {std::pair("OMP_WAIT_POLICY", "passive"), std::pair("OMP_STACKSIZE", "8M")})
    if (!std::getenv(name)) changed = setenv(name, value, 0) == 0 || changed;
  if (changed) execv("/proc/self/exe", argv);  // where that fails, threads stay as they are
}

void parallel_for(size_t n, const std::function<void(size_t)>& body) {
  static const pid_t owner = getpid();  // a child of fork() has no threads besides its own
  const size_t team = std::min(n, size_t(threads()));
  if (team <= 1 || omp_in_parallel() || getpid() != owner) {
    for (size_t i = 0; i < n; ++i) body(i);
    return;
  }
  // Pieces above the lowest failure are skipped; those below it always run. So whichever thread fails first,
  // the same failure is reported.
  std::atomic<size_t> failed{n};
  std::exception_ptr error;
  std::mutex mutex;
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(team))
  for (size_t i = 0; i < n; ++i) {
    if (i > failed.load(std::memory_order_relaxed)) continue;
    try {
      body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (i < failed) {
        failed = i;
        error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace blockgtq
