#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/temporaries.h"
#include "catch.h"
#include "expect_error.h"
#include "temp_folder.h"

using namespace blockgtq;

// What no test can make a real disk do: these stand before the C library's own in this program.
namespace {
int folder_syncs_until_failure = -1;  // -1: none fails
int closes_until_failure = -1;
bool links_fail = false;
int fail_at(int& countdown) {
  if (countdown < 0 || countdown-- > 0) return 0;
  errno = EIO;
  return -1;
}
}  // namespace
extern "C" int fsync(int fd) {
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && fail_at(folder_syncs_until_failure) != 0) return -1;
  return int(syscall(SYS_fsync, fd));
}
extern "C" int close(int fd) {
  const int done = int(syscall(SYS_close, fd));
  return done == 0 ? fail_at(closes_until_failure) : done;
}
extern "C" int link(const char* from, const char* to) noexcept {
  if (!links_fail) return int(syscall(SYS_link, from, to));
  errno = EPERM;
  return -1;
}

namespace {

std::string refuse(const fs::path& target, bool force = false) {
  return expect_error(Exit::output, [&] { OutputFile out(target, force); });
}

/// Runs f in a child process; returns its exit status, or nothing where a signal ended it.
template <class F>
std::optional<int> in_child(F&& f) {
  const pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  if (!WIFEXITED(status)) return std::nullopt;
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("an output appears at commit, whole") {
  const TempFolder folder;
  {
    OutputFile out(folder / "a.txt", false);
    CHECK(out.target() == folder / "a.txt");
    CHECK(out.temporary().parent_path() == folder.path());
    CHECK(out.temporary().filename().string() == fmt::format(".a.txt.{}.tmp", getpid()));
    out.write("one ");
    out.write("");
    out.write("two");
    CHECK_FALSE(fs::exists(folder / "a.txt"));
    out.commit();
    CHECK(get_file(folder / "a.txt") == "one two");
    CHECK_THROWS_AS(out.commit(), std::logic_error);
    CHECK_THROWS_AS(out.write("x"), std::logic_error);
  }
  CHECK(get_file(folder / "a.txt") == "one two");
  CHECK(folder.entries() == 1);
}

TEST_CASE("messages name the target of a temporary file") {
  const TempFolder folder;
  const OutputFile out(folder / "a.h5", false);
  CHECK(out.temporary() == temporary_of(folder / "a.h5"));
  CHECK(target_of(out.temporary()) == folder / "a.h5");
  CHECK(target_of(temporary_of("a.h5")) == "a.h5");
  for (const char* other : {"a.h5", "x/.a.h5.1.tmp", ".tmp", ""}) CHECK(target_of(other) == other);
}

TEST_CASE("without commit nothing stays behind") {
  const TempFolder folder;
  {
    OutputFile out(folder / "a", false);
    out.write("x");
    CHECK(folder.entries() == 1);
  }
  CHECK(folder.entries() == 0);
  try {
    OutputFile out(folder / "a", false);
    throw 1;
  } catch (int) {
  }
  CHECK(folder.entries() == 0);
}

TEST_CASE("an existing file is replaced with force only") {
  const TempFolder folder;
  put_file(folder / "a", "old");
  try {
    OutputFile out(folder / "a", false);
    FAIL("replaced");
  } catch (const Error& e) {
    CHECK(int(e.code) == 4);
    CHECK(e.what() == (folder / "a").string() + ": file exists");
    CHECK(e.hint == "--force overwrites");
  }
  CHECK(folder.entries() == 1);
  {
    OutputFile out(folder / "a", true);
    out.write("lost");
  }
  CHECK(get_file(folder / "a") == "old");
  write_file(folder / "a", "new", true);
  CHECK(get_file(folder / "a") == "new");
  CHECK(folder.entries() == 1);

  // A link that points nowhere is a name taken, too.
  fs::create_symlink(folder / "nowhere", folder / "link");
  CHECK_THAT(refuse(folder / "link"), ContainsSubstring("file exists"));
}

TEST_CASE("what fails behind the rename is undone") {
  for (int* countdown : {&folder_syncs_until_failure, &closes_until_failure}) {
    for (const bool replaces : {false, true}) {
      CAPTURE(replaces, countdown == &closes_until_failure);
      const TempFolder folder;
      if (replaces) put_file(folder / "a", "old");
      OutputFile out(folder / "a", replaces);
      out.write("new");
      *countdown = 0;
      const std::string what = expect_error(Exit::output, [&] { out.commit(); });
      *countdown = -1;
      CHECK(what == (folder / "a").string() + ": cannot write: Input/output error");
      CHECK(folder.entries() == size_t(replaces));
      if (replaces) CHECK(get_file(folder / "a") == "old");
    }
  }
}

TEST_CASE("where nothing can be put back, the message says what stays") {
  const TempFolder folder;
  put_file(folder / "a", "old");
  OutputFile out(folder / "a", true);
  out.write("new");
  links_fail = true;
  folder_syncs_until_failure = 0;
  const std::string what = expect_error(Exit::output, [&] { out.commit(); });
  folder_syncs_until_failure = -1;
  CHECK(what == fmt::format("{0}: cannot write: Input/output error; complete and left in place: {0}",
                            (folder / "a").string()));
  CHECK(get_file(folder / "a") == "new");
  write_file(folder / "a", "newer", true);  // without hard links a file is replaced all the same
  links_fail = false;
  CHECK(get_file(folder / "a") == "newer");
  CHECK(folder.entries() == 1);
}

TEST_CASE("several outputs appear together or not at all") {
  const TempFolder folder;
  put_file(folder / "b", "old");
  const auto commit = [&](auto spoil) {
    OutputFile a(folder / "a", true), b(folder / "b", true), c(folder / "c", true);
    for (OutputFile* file : {&a, &b, &c}) file->write("new");
    spoil(c);
    OutputFile* const all[] = {&a, &b, &c};
    commit_all(all);
  };
  const auto as_before = [&] {
    CHECK_FALSE(fs::exists(folder / "a"));
    CHECK(get_file(folder / "b") == "old");
  };
  // The last one cannot be sealed, cannot be renamed, cannot be made durable.
  CHECK_THAT(expect_error(Exit::output, [&] { commit([](OutputFile& c) { fs::remove(c.temporary()); }); }),
             ContainsSubstring("was removed"));
  as_before();
  CHECK_THAT(
      expect_error(Exit::output, [&] { commit([](OutputFile& c) { fs::create_directory(c.target()); }); }),
      ContainsSubstring("c: cannot write: Is a directory"));
  as_before();
  fs::remove(folder / "c");
  CHECK_THAT(expect_error(Exit::output, [&] { commit([](OutputFile&) { folder_syncs_until_failure = 2; }); }),
             ContainsSubstring("c: cannot write: Input/output error"));
  folder_syncs_until_failure = -1;
  as_before();
  CHECK(folder.entries() == 1);

  commit([](OutputFile&) {});
  for (const char* name : {"a", "b", "c"}) CHECK(get_file(folder / name) == "new");
  CHECK(folder.entries() == 3);
}

TEST_CASE("a former file that a killed run kept is swept") {
  const TempFolder folder;
  put_file(folder / ".a.1.old", "of a killed run");
  put_file(folder / ".a.x.old", "not ours");
  write_file(folder / "a", "new", false);
  CHECK(folder.entries() == 2);
}

TEST_CASE("what an output has so far stays under a second name") {
  const TempFolder folder;
  const fs::path kept = folder / "a.txt.part";
  {
    OutputFile out(folder / "a.txt", false);
    out.write("one ");
    out.keep_as(kept);
    out.write("two ");
    out.keep_as(kept);
    out.write("three");
    CHECK(folder.entries() == 2);
  }
  CHECK(folder.entries() == 1);
  CHECK(get_file(kept) == "one two three");  // the same file, to which somebody may have written since
  {
    OutputFile out(folder / "a.txt", false);
    out.write("other");
    CHECK(get_file(kept) == "one two three");
    out.keep_as(kept);
    CHECK(get_file(kept) == "other");
    out.commit();
  }
  CHECK(get_file(folder / "a.txt") == "other");
  CHECK(folder.entries() == 2);
  OutputFile out(folder / "b.txt", false);
  links_fail = true;
  const std::string error = expect_error(Exit::output, [&] { out.keep_as(kept); });
  links_fail = false;
  CHECK(error == kept.string() + ": cannot write: Operation not permitted");
  CHECK(get_file(kept) == "other");
  CHECK_THAT(expect_error(Exit::output, [&] { out.keep_as(folder / "none" / "b"); }),
             ContainsSubstring("No such file or directory"));
  CHECK(folder.entries() == 3);
}

TEST_CASE("a target that appears meanwhile is not replaced") {
  const TempFolder folder;
  OutputFile out(folder / "a", false);
  out.write("mine");
  put_file(folder / "a", "theirs");
  CHECK_THAT(expect_error(Exit::output, [&] { out.commit(); }), ContainsSubstring("file exists"));
  CHECK(get_file(folder / "a") == "theirs");
}

TEST_CASE("a temporary file that somebody took away is no success") {
  const TempFolder folder;
  OutputFile out(folder / "a", false);
  fs::remove(out.temporary());
  CHECK_THAT(expect_error(Exit::output, [&] { out.commit(); }), ContainsSubstring("was removed"));
  put_file(out.temporary(), "another");
  CHECK_THAT(expect_error(Exit::output, [&] { out.commit(); }), ContainsSubstring("was removed"));
  CHECK_FALSE(fs::exists(folder / "a"));
}

TEST_CASE("targets that cannot be written are refused at once") {
  const TempFolder folder;
  CHECK(refuse(folder.path(), true) == folder.path().string() + ": cannot write: it is a folder");
  CHECK_THAT(refuse(""), ContainsSubstring("not a file name"));
  CHECK_THAT(refuse(folder.path().string() + "/"), ContainsSubstring("not a file name"));
  CHECK(refuse(folder / "no" / "a") ==
        (folder / "no" / "a").string() + ": cannot write: no such folder: " + (folder / "no").string());
  put_file(folder / "file", "");
  CHECK_THAT(refuse(folder / "file" / "a"), ContainsSubstring("Not a directory"));
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(refuse(folder / "pipe", true), ContainsSubstring("it is a device, pipe or socket"));
  CHECK_THAT(refuse(folder / std::string(300, 'x')), ContainsSubstring("File name too long"));
  CHECK_THAT(refuse("/proc/a"), ContainsSubstring("cannot write"));

  fs::create_directory(folder / "closed");
  fs::permissions(folder / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  if (geteuid() != 0) {  // root may write everywhere
    CHECK(refuse(folder / "closed" / "a") ==
          (folder / "closed" / "a").string() + ": cannot write: Permission denied");
  }
  CHECK(folder.entries() == 3);
}

TEST_CASE("a second writer of the same target is refused, a killed one's leftover removed") {
  const TempFolder folder;
  {
    const OutputFile first(folder / "a", false);
    CHECK_THAT(refuse(folder / "a"), ContainsSubstring("locked: this run is already writing it"));
    const auto other = in_child([&] {
      try {
        OutputFile second(folder / "a", false);
      } catch (const Error& e) {
        const std::string want = fmt::format("locked: process {} is writing it", getppid());
        return int(e.code == Exit::output && std::string(e.what()).find(want) != std::string::npos);
      }
      return 0;
    });
    CHECK(other == 1);
    CHECK(fs::exists(first.temporary()));
  }
  CHECK(folder.entries() == 0);

  CHECK_FALSE(in_child([&]() -> int {
                OutputFile out(folder / "a", false);
                kill(getpid(), SIGKILL);
                return 0;
              }).has_value());
  CHECK(folder.entries() == 1);
  put_file(folder / fmt::format(".a.{}.tmp", getpid()), "of an earlier process");
  put_file(folder / ".a.txt.1.tmp", "another target's");
  put_file(folder / ".a.x.tmp", "not ours");
  write_file(folder / "a", "new", false);
  CHECK(get_file(folder / "a") == "new");
  CHECK(folder.entries() == 3);
}

TEST_CASE("others may write the temporary file, and lock it, as HDF5 does") {
  const TempFolder folder;
  OutputFile out(folder / "a", false);
  const int fd = open(out.temporary().c_str(), O_RDWR | O_TRUNC);
  REQUIRE(fd >= 0);
  CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
  CHECK(write(fd, "binary", 6) == 6);
  CHECK(close(fd) == 0);
  out.commit();
  CHECK(get_file(folder / "a") == "binary");
}

TEST_CASE("remove_temporaries removes open outputs, and only those") {
  const TempFolder folder;
  write_file(folder / "done", "x", false);
  OutputFile a(folder / "a", false), b(folder / "b", false);
  CHECK(folder.entries() == 3);
  remove_temporaries();
  CHECK(folder.entries() == 1);
  CHECK(fs::exists(folder / "done"));
}

TEST_CASE("64 outputs may be open at once") {
  const TempFolder folder;
  std::vector<std::unique_ptr<OutputFile>> open;
  for (int i = 0; i < 64; ++i) {
    open.push_back(std::make_unique<OutputFile>(folder / std::to_string(i), false));
  }
  CHECK_THROWS_AS(OutputFile(folder / "64", false), std::logic_error);
  open.pop_back();
  CHECK_NOTHROW(OutputFile(folder / "64", false));
  open.clear();
  CHECK(folder.entries() == 0);
}

TEST_CASE("a write that fails is an error of the target") {
  const TempFolder folder;
  // A limit on file sizes fails a write as a full disk does, and needs no privilege.
  const auto status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file(folder / "a", std::string(1001, 'x'), false);
    } catch (const Error& e) {
      const std::string want = (folder / "a").string() + ": cannot write: File too large";
      return int(e.code == Exit::output && e.what() == want);
    }
    return 0;
  });
  CHECK(status == 1);
  CHECK(folder.entries() == 0);
}

TEST_CASE("a full disk is an error of the target and leaves nothing") {
  const TempFolder folder;
  const auto status = in_child([&] {
    constexpr int kNotAllowed = 77;
    const std::string user = fmt::format("0 {} 1", geteuid()), group = fmt::format("0 {} 1", getegid());
    if (unshare(CLONE_NEWNS) != 0) {
      if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kNotAllowed;
      put_file("/proc/self/uid_map", user);  // a file's owner and group must be known to the new name space
      put_file("/proc/self/setgroups", "deny");
      put_file("/proc/self/gid_map", group);
    }
    mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=65536") != 0) return kNotAllowed;
    int right = 0;
    try {
      write_file(folder / "a", std::string(1 << 20, 'x'), false);
    } catch (const Error& e) {
      const std::string want = (folder / "a").string() + ": cannot write: No space left on device";
      right = int(e.code == Exit::output && e.what() == want && folder.entries() == 0);
    }
    umount(folder.path().c_str());
    return right;
  });
  if (status == 77) {
    WARN("skipped: a small file system cannot be mounted here");
  } else {
    CHECK(status == 1);
  }
}
