#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/temporaries.h"

namespace blockgtq {
namespace {

constexpr const char* kForceHint = "--force overwrites";

[[noreturn]] void fail_write(const fs::path& target, int error) {
  fail_output("{}: cannot write: {}", target.string(), std::strerror(error));
}

[[noreturn]] void fail_exists(const fs::path& target) {
  throw Error(Exit::output, fmt::format("{}: file exists", target.string()), kForceHint);
}

fs::path folder_of(const fs::path& target) {
  return target.has_parent_path() ? target.parent_path() : fs::path(".");
}

void check_target(const fs::path& target, bool force) {
  if (!target.has_filename()) fail_output("{}: cannot write: not a file name", target.string());
  const fs::path folder = folder_of(target);
  std::error_code ec;
  if (!fs::exists(folder, ec) && !ec) {
    fail_output("{}: cannot write: no such folder: {}", target.string(), folder.string());
  }
  struct stat st;
  if (lstat(target.c_str(), &st) != 0) {
    if (errno != ENOENT) fail_write(target, errno);
    return;
  }
  stat(target.c_str(), &st);  // of a link, what it points to, if anything
  if (S_ISDIR(st.st_mode)) fail_output("{}: cannot write: it is a folder", target.string());
  if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
    fail_output("{}: cannot write: it is a device, pipe or socket", target.string());
  }
  if (!force) fail_exists(target);
}

/// The process number in ".NAME.PID.tmp" or ".NAME.PID.old", where `prefix` is ".NAME."; empty for any other
/// name.
std::string writer_of(const std::string& name, const std::string& prefix) {
  if (!name.starts_with(prefix) || name.size() <= prefix.size() + 4) return "";
  if (!name.ends_with(".tmp") && !name.ends_with(".old")) return "";
  const std::string pid = name.substr(prefix.size(), name.size() - prefix.size() - 4);
  return pid.find_first_not_of("0123456789") == std::string::npos ? pid : "";
}

/// Whether a process of this machine is ending: it has released its memory, and with it its arguments.
bool is_ending(const std::string& pid) {
  const int fd = open(("/proc/" + pid + "/cmdline").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char first;
  const bool ending = read(fd, &first, 1) == 0;
  close(fd);
  return ending;
}

/// lock_file() for the file of another process. A killed process keeps its locks until its device lets it go,
/// which takes seconds.
int lock_leftover(int fd, const std::string& pid) {
  constexpr int kTenths = 300;
  for (int i = 0; i < kTenths && lock_file(fd, false) == EAGAIN && is_ending(pid); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return lock_file(fd, false);  // it has the lock already, or it ended meanwhile
}

/// Removes what killed runs left beside the target. Exit::output where another run is writing it.
void sweep_leftovers(const fs::path& target, const fs::path& own) {
  const std::string prefix = fmt::format(".{}.", target.filename().string());
  std::error_code ec;
  for (fs::directory_iterator it(folder_of(target), ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    const std::string pid = writer_of(name, prefix);
    if (pid.empty() || name == own.filename().string()) continue;
    const int fd = open(it->path().c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) continue;  // we cannot tell, so it stays
    const int error = lock_leftover(fd, pid);
    if (error == 0) unlink(it->path().c_str());
    close(fd);
    if (error == EAGAIN) {
      fail_output("{}: locked: process {} is writing it", target.string(), pid);
    }
  }
}

/// Creates and locks the temporary file. Returns -1 and sets errno where that fails.
int create_locked(const fs::path& temporary) {
  for (;;) {
    const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
      // An earlier process of the same number was killed, or this process is already writing the target.
      const int old = open(temporary.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
      if (old < 0) {
        if (errno == ENOENT) continue;
        return -1;
      }
      const int error = lock_file(old, false);
      if (error == 0) unlink(temporary.c_str());
      close(old);
      if (error == 0) continue;
      errno = error;
      return -1;
    }
    if (fd < 0) return -1;
    // Only a sweep of another run can hold the lock of a new file; it may have taken the file for a leftover
    // and removed it. Where the file system has no locks the run continues without one.
    lock_file(fd, true);
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_nlink > 0) return fd;
    close(fd);
  }
}

/// A rename that never replaces a file. Where the file system cannot promise that, the check just before it
/// is the best there is.
int rename_new(const fs::path& from, const fs::path& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  struct stat st;
  if (lstat(to.c_str(), &st) == 0) return EEXIST;
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

/// Syncs the folder, so that the new name is on disk. A folder that cannot be opened for reading, or a file
/// system that cannot sync one, is no reason to report a finished file as failed.
void sync_folder(const fs::path& target) {
  const int fd = open(folder_of(target).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  const int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (error == EIO || error == ENOSPC || error == EDQUOT) fail_write(target, error);
}

/// Reads every byte of the text, after write() could not read its source. Where that is a mapped file that
/// became shorter, reading it here gives the right error.
void touch(std::string_view text) {
  const volatile char* from = text.data();
  char last = 0;
  for (size_t i = 0; i < text.size(); ++i) last = from[i];
  static_cast<void>(last);
  errno = EFAULT;
}

}  // namespace

OutputFile::OutputFile(fs::path target, bool force) : target_(std::move(target)), force_(force) {
  check_target(target_, force_);
  temporary_ = temporary_of(target_);
  slot_ = claim_temporary(temporary_);
  fd_ = create_locked(temporary_);
  if (fd_ < 0) {
    const int error = errno;
    forget_temporary(std::exchange(slot_, -1));
    if (error == EAGAIN) fail_output("{}: locked: this run is already writing it", target_.string());
    fail_write(target_, error);
  }
  set_temporary_live(slot_);
  try {
    sweep_leftovers(target_, temporary_);
  } catch (...) {
    discard();
    throw;
  }
}

OutputFile::~OutputFile() {
  discard();
}

void OutputFile::discard() noexcept {
  if (slot_ < 0) return;
  unlink(temporary_.c_str());
  forget_temporary(slot_);
  slot_ = -1;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void OutputFile::write(std::string_view text) {
  check(fd_ >= 0, "write after commit");
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EFAULT) touch(text);
    if (n < 0) fail_write(target_, errno);
    text.remove_prefix(size_t(n));
  }
}

bool OutputFile::is_at(const fs::path& path) const noexcept {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 && st.st_ino == inode_ && st.st_dev == device_;
}

/// A name beside the target for a moment, swept where a killed run left it.
fs::path OutputFile::second_name() const {
  return fs::path(temporary_).replace_extension(".old");
}

void OutputFile::keep_as(const fs::path& name) {
  seal();
  if (is_at(name)) return;
  const fs::path between = second_name();
  unlink(between.c_str());  // of a killed process with this number
  if (link(temporary_.c_str(), between.c_str()) == 0 && std::rename(between.c_str(), name.c_str()) == 0)
    return sync_folder(name);
  const int error = errno;
  unlink(between.c_str());
  fail_write(name, error);
}

/// Every byte on the disk, under the temporary name.
void OutputFile::seal() {
  check(fd_ >= 0, "commit twice");
  if (fsync(fd_) != 0) fail_write(target_, errno);
  struct stat mine;
  if (fstat(fd_, &mine) != 0) fail_write(target_, errno);
  inode_ = mine.st_ino;
  device_ = mine.st_dev;
  if (!is_at(temporary_)) {
    fail_output("{}: cannot write: its temporary file {} was removed", target_.string(), temporary_.string());
  }
}

/// Gives the file its name. A file that it replaces keeps a second name until finish(), so that undo() can
/// restore it. A file system without hard links is no reason not to write.
void OutputFile::place() {
  struct stat st;
  replaced_ = force_ && lstat(target_.c_str(), &st) == 0;
  if (replaced_) {
    former_ = second_name();
    unlink(former_.c_str());  // of a killed process with this number
    if (link(target_.c_str(), former_.c_str()) == 0) {
      former_fd_ = open(former_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
      if (former_fd_ >= 0) lock_file(former_fd_, false, F_RDLCK);
    } else {
      former_.clear();
    }
  }
  const int error = force_ ? (std::rename(temporary_.c_str(), target_.c_str()) == 0 ? 0 : errno)
                           : rename_new(temporary_, target_);
  if (error == 0) return;
  finish();
  if (error == EEXIST) fail_exists(target_);
  fail_write(target_, error);
}

/// Closes the file, and so unlocks it. Only after place(): before it a sweep would take the file for a
/// leftover.
void OutputFile::close_checked() {
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0 && errno != EINTR) fail_write(target_, errno);
}

/// Makes the target what it was before place(). Returns false where that fails and the new file stays.
bool OutputFile::undo() noexcept {
  if (!is_at(target_)) return true;  // another process has replaced it since, so it is not ours any more
  if (!replaced_) return unlink(target_.c_str()) == 0;
  return !former_.empty() && std::rename(former_.c_str(), target_.c_str()) == 0;
}

void OutputFile::finish() noexcept {
  if (!former_.empty()) unlink(former_.c_str());
  if (former_fd_ >= 0) close(former_fd_);
  former_.clear();
  former_fd_ = -1;
}

void OutputFile::commit() {
  OutputFile* const self = this;
  commit_all({&self, 1});
}

void commit_all(std::span<OutputFile* const> files) {
  for (OutputFile* file : files) file->seal();
  size_t placed = 0;
  try {
    for (; placed < files.size(); ++placed) files[placed]->place();
    for (OutputFile* file : files) file->close_checked();
    for (OutputFile* file : files) sync_folder(file->target_);
  } catch (const Error& e) {
    std::string stay;
    while (placed > 0) {
      OutputFile& file = *files[--placed];
      if (!file.undo()) stay += (stay.empty() ? "" : ", ") + file.target_.string();
      file.finish();
    }
    if (stay.empty()) throw;
    throw Error(e.code, fmt::format("{}; complete and left in place: {}", e.what(), stay), e.hint);
  }
  for (OutputFile* file : files) {
    file->finish();
    forget_temporary(std::exchange(file->slot_, -1));
  }
}

void write_file(const fs::path& target, std::string_view text, bool force) {
  OutputFile out(target, force);
  out.write(text);
  out.commit();
}

}  // namespace blockgtq
