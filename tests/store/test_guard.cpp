// A foreign file is read in a child process first. What HDF5 does to that child is played here: no file that
// brings it down is needed.
#include <hdf5.h>
#include <sys/resource.h>

#include <csignal>
#include <new>
#include <vector>

#include "base/error.h"
#include "catch.h"
#include "samples.h"
#include "store/h5_guard.h"
#include "store/map_file.h"
#include "store/schema.h"

using namespace blockgtq;

namespace {

std::string refusal(const fs::path& path, const std::function<void()>& reading) {
  try {
    try_in_child(path, reading);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    return e.what();
  }
  return "passed";
}

/// Work of all children so far that have ended.
long pages_of_children() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  return usage.ru_minflt;
}

void make_old(const fs::path& path) {
  fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(1));
}

}  // namespace

TEST_CASE("what ends the child refuses the file", "[store][guard]") {
  const TempFolder folder;
  const fs::path path = folder / "a.h5";
  put_bytes(path, "no matter what");
  const std::string start = path.string() + ": ";
  CHECK_THAT(refusal(path, [] { std::raise(SIGSEGV); }),
             ContainsSubstring(start + "damaged: HDF5 ") && ContainsSubstring("crashes on it (signal 11)"));
  CHECK_THAT(refusal(path, [] { throw std::bad_alloc(); }),
             ContainsSubstring(start + "damaged: ") && ContainsSubstring("more than 512 MiB"));
  CHECK(refusal(path, [&] { fail_input("{}: its own words", path.string()); }) == start + "its own words");
  CHECK(refusal(path, [] {}) == "passed");
  CHECK_THAT(refusal(folder / "none.h5", [] {}), ContainsSubstring("none.h5: cannot open: No such file"));
  CHECK_THAT(refusal(folder.path, [] {}), ContainsSubstring("not a regular file"));
}

#if !defined(__SANITIZE_ADDRESS__)  // which ends a process that gets no memory
TEST_CASE("memory that HDF5 does not get is noticed even where the reader goes on", "[store][guard]") {
  const TempFolder folder;
  const fs::path path = folder / "a.h5";
  put_bytes(path, "no matter what");
  const auto reading = [](size_t bytes) {
    const hid_t type = H5Tcreate(H5T_OPAQUE, bytes), list = H5Pcreate(H5P_DATASET_CREATE);
    std::vector<char> value(1 << 20);
    H5Pset_fill_value(list, type, value.data());  // copies it: 1 MiB can be had, 1 GiB not
  };
  CHECK(refusal(path, [&] { reading(1 << 20); }) == "passed");
  CHECK_THAT(refusal(path, [&] { reading(1 << 30); }), ContainsSubstring("takes more than 512 MiB"));
}
#endif

TEST_CASE("a file that passed is not tried again until it changes", "[store][guard]") {
  const TempFolder folder;
  const fs::path path = folder / "a.h5";
  put_bytes(path, "first");
  make_old(path);
  CHECK(refusal(path, [] {}) == "passed");
  const auto refuse = [&] { fail_input("tried again"); };
  CHECK(refusal(path, refuse) == "passed");
  put_bytes(path, "second");
  CHECK(refusal(path, refuse) == "tried again");
  put_bytes(path, "new, so that a change might not show in its time");
  CHECK(refusal(path, [] {}) == "passed");
  CHECK(refusal(path, refuse) == "tried again");
}

TEST_CASE("every reader reads in a child first", "[store][guard]") {
  const TempFolder folder;
  for (const std::string& kind : kinds()) {
    const fs::path path = folder / (kind + ".h5");
    write_kind(kind, path);
    make_old(path);
    const long before = pages_of_children();
    read_kind(kind, path);
    const long after = pages_of_children();
    CHECK(after > before);
    CHECK(read_schema(path) == "blockgtq." + kind);
    read_kind(kind, path);
    CHECK(pages_of_children() == after);
  }
}
