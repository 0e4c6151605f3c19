#include "store/h5_guard.h"

#include <mutex>
#include <new>
#include <set>

#include "base/child.h"
#include "base/file_state.h"
#include "store/h5_handle.h"

namespace blockgtq {
namespace {

// The child inflates nothing. A small file takes some milliseconds, one of 100 MB less than a tenth of a
// second.
constexpr uint64_t kBytesPerSecond = 10 << 20;

herr_t look_for_memory(unsigned, const H5E_error2_t* entry, void* ran_out) {
  *static_cast<bool*>(ran_out) |= is_lack_of_memory(*entry);
  return 0;
}

/// In the child: notes that some call of HDF5 got no memory, whatever it made of that.
herr_t on_failure(hid_t stack, void* ran_out) {
  return H5Ewalk2(stack, H5E_WALK_UPWARD, look_for_memory, ran_out);
}

}  // namespace

void try_in_child(const fs::path& path, const std::function<void()>& reading) {
  static std::mutex one_at_a_time;  // a second child would keep the pipe of the first one open
  static std::set<FileState> passed;
  const std::lock_guard lock(one_at_a_time);
  const FileState state = file_state(path);
  if (passed.count(state)) return;

  ChildLimits limits;
  limits.seconds += int(state.bytes / kBytesPerSecond);
  const ChildEnd end = run_in_child(limits, [&] {
    bool ran_out = false;
    H5Eset_auto2(H5E_DEFAULT, on_failure, &ran_out);
    reading();
    if (ran_out) throw std::bad_alloc();
  });
  const std::string file = path.string();
  switch (end.how) {
    case ChildEnd::How::done:
      break;
    case ChildEnd::How::failed:
      throw *end.error;
    case ChildEnd::How::crashed:
      fail_input("{}: damaged: HDF5 {}.{}.{} crashes on it{}", file, H5_VERS_MAJOR, H5_VERS_MINOR,
                 H5_VERS_RELEASE, end.signal ? fmt::format(" (signal {})", end.signal) : "");
    case ChildEnd::How::late:
      fail_input("{}: damaged: reading it takes more than {} s of processor time", file, limits.seconds);
    case ChildEnd::How::no_memory:
      fail_input("{}: damaged: reading it piece by piece takes more than {} MiB", file, limits.bytes >> 20);
  }
  if (state.settled()) passed.insert(state);
}

}  // namespace blockgtq
