#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/mapped_ranges.h"

namespace blockgtq {
namespace {

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) close(fd);
  }
};

/// Opens a regular file. O_NONBLOCK, so that opening a FIFO does not wait for a writer before it is refused.
Fd open_regular(const fs::path& path, struct stat& st) {
  Fd f{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (f.fd < 0) fail_input("{}: cannot open: {}", path.string(), std::strerror(errno));
  if (fstat(f.fd, &st) != 0) fail_input("{}: cannot read: {}", path.string(), std::strerror(errno));
  if (S_ISDIR(st.st_mode)) fail_input("{}: not a regular file: it is a folder", path.string());
  if (!S_ISREG(st.st_mode))
    fail_input("{}: not a regular file: it is a device, pipe or socket", path.string());
  return f;
}

/// Exit::input for a Git LFS pointer: three lines of text in place of a large file, where git-lfs is not
/// installed or has not fetched it.
void refuse_lfs_pointer(const fs::path& path, std::string_view text) {
  constexpr size_t kLongest = 1024;  // as git-lfs defines it
  if (text.size() >= kLongest || !text.starts_with("version https://git-lfs.github.com/spec/")) return;
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  throw Error(Exit::input, path.string() + ": a Git LFS pointer: the file itself was not fetched",
              "git -C " + folder + " lfs pull");
}

uintptr_t page_size() {
  static const uintptr_t size = uintptr_t(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : MappedFile() {
  path_ = path;
  struct stat st;
  const Fd f = open_regular(path, st);
  if (st.st_size == 0) return;  // mmap refuses an empty range
  void* p = mmap(nullptr, size_t(st.st_size), PROT_READ, MAP_PRIVATE, f.fd, 0);
  if (p == MAP_FAILED) fail_input("{}: cannot map: {}", path.string(), std::strerror(errno));
  data_ = static_cast<const std::byte*>(p);
  size_ = size_t(st.st_size);
  claim_range(data_, size_, path.string());
  refuse_lfs_pointer(path, text());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!data_) return;
  forget_range(data_);
  munmap(const_cast<std::byte*>(data_), size_);
}

// Of a page that is only partly in the range, prefetching is worthwhile, but other readers may still need it.
// So prefetch rounds outwards, and release inwards.
void MappedFile::prefetch(std::span<const std::byte> part) const {
  if (part.empty()) return;
  check(part.data() >= data_ && part.data() + part.size() <= data_ + size_, "prefetch outside the file");
  const uintptr_t first = uintptr_t(part.data()) & ~(page_size() - 1);
  const uintptr_t last = uintptr_t(part.data()) + part.size();
  madvise(reinterpret_cast<void*>(first), last - first, MADV_WILLNEED);
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  check(part.data() >= data_ && part.data() + part.size() <= data_ + size_, "release outside the file");
  const uintptr_t first = (uintptr_t(part.data()) + page_size() - 1) & ~(page_size() - 1);
  uintptr_t last = uintptr_t(part.data()) + part.size();
  // Nobody reads beyond the end of the file's last page.
  if (part.data() + part.size() < data_ + size_) last &= ~(page_size() - 1);
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

std::string read_text(const fs::path& path, size_t max_bytes) {
  struct stat st;
  const Fd f = open_regular(path, st);
  const auto refuse_size = [&](size_t size) {
    fail_input("{}: file too large: {} bytes, at most {}", path.string(), size, max_bytes);
  };
  if (size_t(st.st_size) > max_bytes) refuse_size(size_t(st.st_size));
  // st_size is only a hint: the file may grow meanwhile, and files in /proc report 0.
  std::string text(size_t(st.st_size) + 1, '\0');
  size_t n = 0;
  for (;;) {
    if (n == text.size()) text.resize(std::max<size_t>(4096, 2 * n));
    const ssize_t got = read(f.fd, text.data() + n, text.size() - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_input("{}: cannot read: {}", path.string(), std::strerror(errno));
    if (got == 0) break;
    n += size_t(got);
    if (n > max_bytes) refuse_size(n);
  }
  text.resize(n);
  refuse_lfs_pointer(path, text);
  return text;
}

}  // namespace blockgtq
