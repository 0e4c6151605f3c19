#include "base/worker_pool.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <utility>

namespace blockgtq {
namespace {

constexpr size_t kStackBytes = size_t(8) << 20;  // whatever `ulimit -s` says

thread_local bool inside = false;

struct Job {
  const std::function<void()>& work;
  size_t places;  // threads that may still begin
  size_t active = 0;
};

class Pool {
 public:
  void run(size_t n_more, const std::function<void()>& work) {
    Job job{work, n_more};
    {
      const std::lock_guard lock(mutex_);
      grow(n_more);
      jobs_.push_back(&job);
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    jobs_.remove(&job);
    done_.wait(lock, [&] { return job.active == 0; });
  }

 private:
  /// Fewer threads than wanted, where the system gives no more, do the same work.
  void grow(size_t n) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    while (n_threads_ < n && pthread_create(&thread, &attributes, &Pool::begin, this) == 0) ++n_threads_;
    pthread_attr_destroy(&attributes);
  }

  static void* begin(void* pool) {
    inside = true;
    static_cast<Pool*>(pool)->serve();
    return nullptr;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      if (--job.places == 0) jobs_.pop_front();
      ++job.active;
      lock.unlock();
      job.work();
      lock.lock();
      if (--job.active == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::list<Job*> jobs_;  // with places left
  size_t n_threads_ = 0;
};

}  // namespace

void run_together(size_t n_more, const std::function<void()>& work) {
  // Never destroyed: its threads sleep in it until the process ends. A child of fork() has none of them.
  static Pool* const pool = new Pool;
  static const pid_t owner = getpid();
  const bool outer = std::exchange(inside, true);
  if (n_more == 0 || outer || getpid() != owner)
    work();
  else
    pool->run(n_more, work);
  inside = outer;
}

bool runs_together() {
  return inside;
}

}  // namespace blockgtq
