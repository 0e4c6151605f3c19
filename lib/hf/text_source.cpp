#include "hf/text_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/stop.h"
#include "hf/utf8.h"

namespace blockgtq {
namespace {

constexpr size_t kFirstBytes = size_t(1) << 16;
constexpr size_t kBlockBytes = size_t(16) << 20;

bool is_stream(const fs::path& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 &&
         (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode) || S_ISSOCK(st.st_mode));
}

/// Waits until there is something to read, or no writer is left. check_stop() ends the wait.
void wait_for_bytes(int fd) {
  for (;;) {
    check_stop();
    struct pollfd waits = {fd, POLLIN, 0};
    if (poll(&waits, 1, 200) > 0) return;
  }
}

}  // namespace

TextSource::TextSource(const fs::path& path, size_t max_bytes) : name_(path.string()), max_bytes_(max_bytes) {
  if (name_ == "-") {
    static bool taken = false;
    if (std::exchange(taken, true))
      throw Error(Exit::usage, "standard input can be read once: '-' stands for two texts, or is read again");
    name_ = "standard input";
    is_stream_ = true;
    read_stream(STDIN_FILENO);
    return;
  }
  is_stream_ = is_stream(path);
  if (!is_stream_) {
    file_ = MappedFile(path);
    cut_ = file_.text().size() > max_bytes_;
    return;
  }
  // O_NONBLOCK: for a named pipe without a writer we wait where a signal can end the wait.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_input("{}: cannot open: {}", name_, std::strerror(errno));
  try {
    read_stream(fd);
  } catch (...) {
    close(fd);
    throw;
  }
  close(fd);
}

void TextSource::read_stream(int fd) {
  max_bytes_ = std::min(max_bytes_, kMaxStreamBytes);
  size_t n = 0;
  for (;;) {
    // One more byte than may be used shows whether there is more.
    if (n == held_.size()) held_.resize(std::min(max_bytes_ + 1, std::max(kFirstBytes, 2 * n)));
    wait_for_bytes(fd);
    const ssize_t got = read(fd, held_.data() + n, held_.size() - n);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) fail_input("{}: cannot read: {}", name_, std::strerror(errno));
    n += size_t(got);
    cut_ = n > max_bytes_;
    if (got == 0 || cut_) break;
  }
  held_.resize(std::min(n, max_bytes_));
}

std::string_view TextSource::text() const {
  return is_stream_ ? std::string_view(held_) : file_.text().substr(0, max_bytes_);
}

size_t TextSource::find_invalid() const {
  const std::string_view all = text();
  for (size_t begin = 0, end; begin < all.size(); begin = end) {
    end = std::min(begin + kBlockBytes, all.size());
    size_t whole = end;  // characters
    while (whole > begin && whole < all.size() && (uint8_t(all[whole]) & 0xc0) == 0x80) --whole;
    if (whole > begin) end = whole;
    const size_t invalid = find_invalid_utf8(all.substr(begin, end - begin));
    if (begin + invalid < end) return begin + invalid;
    forget(begin, end);
  }
  return all.size();
}

void TextSource::add_to(Sha256& hash) const {
  const std::string_view all = text();
  for (size_t begin = 0, end; begin < all.size(); begin = end) {
    end = std::min(begin + kBlockBytes, all.size());
    hash.update(all.substr(begin, end - begin));
    forget(begin, end);
  }
}

void TextSource::forget(size_t begin, size_t end) const {
  if (!is_stream_) file_.release(file_.bytes().subspan(begin, end - begin));
}

std::string TextSource::short_name() const {
  if (!is_stream_) return file_.path().filename().string();
  return name_ == "standard input" ? name_ : "a pipe";
}

}  // namespace blockgtq
