#include "tasks/sample_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/file_lock.h"
#include "tasks/json_lines.h"

namespace blockgtq {
namespace {

/// A killed run holds its lock until its device has let it go, which takes seconds.
constexpr auto kPatience = std::chrono::seconds(10);

void lock(int fd, const fs::path& path) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (lock_file(fd, false) == EAGAIN) {
    if (std::chrono::steady_clock::now() > end)
      fail_output("{}: locked: another run is writing it", path.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

[[noreturn]] void fail_write(const fs::path& path) {
  fail_output("{}: cannot write: {}", path.string(), std::strerror(errno));
}

/// Whether there is one. Exit::output for what is none, or where the system cannot tell: a file that is not
/// seen would be begun anew.
bool is_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none)
    fail_output("{}: cannot write: {}", path.string(), error.message());
  if (fs::exists(status) && !fs::is_regular_file(status))
    fail_output("{}: cannot write: it is a folder, device, pipe or socket", path.string());
  return fs::exists(status);
}

std::string one_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string read_all(int fd, const fs::path& path) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_input("{}: cannot read: {}", path.string(), std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, size_t(n));
    if (text.size() > kMaxLinesBytes)
      fail_input("{}: file too large: more than {} bytes", path.string(), kMaxLinesBytes);
  }
}

}  // namespace

SampleFile::SampleFile(const fs::path& path, const Json& head, Resume resume, bool force) : path_(path) {
  const bool exists = is_file(path);
  if (!exists && resume == Resume::must) fail_input("{}: no file to resume from", path.string());
  if (exists && resume == Resume::never && !force)
    throw Error(Exit::output, fmt::format("{}: file exists", path.string()), "--force begins it anew");
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_write(path);
  try {
    struct stat st;
    if (fstat(fd_, &st) != 0 || !S_ISREG(st.st_mode))
      fail_output("{}: cannot write: it is not a regular file", path.string());
    lock(fd_, path);
    if (resume == Resume::never && ftruncate(fd_, 0) != 0) fail_write(path);
    read(head);
  } catch (...) {
    close(fd_);
    throw;
  }
}

SampleFile::~SampleFile() {
  close(fd_);
}

void SampleFile::read(const Json& head) {
  const std::string text = read_all(fd_, path_);
  size_t whole = 0;  // bytes of complete lines
  int64_t number = 0;
  while (whole < text.size()) {
    const size_t end = text.find('\n', whole);
    if (end == std::string::npos) break;
    const std::string where = fmt::format("{}:{}", path_.string(), ++number);
    Json line;
    try {
      line = parse_json(std::string_view(text).substr(whole, end - whole), where);
    } catch (const Error&) {
      if (number > 1 && end + 1 == text.size()) break;  // left by a machine that went down
      throw;
    }
    if (number == 1) {
      if (const std::string what = differences(line.is_object() ? line : Json::object(), head); !what.empty())
        throw Error(Exit::input, fmt::format("{}: of another run: {}", path_.string(), what),
                    "another file, or --resume never --force, begins anew");
    } else {
      std::string cache = text_field(line, "cache", where), id = text_field(line, "id", where);
      done_[{std::move(cache), std::move(id)}] = std::move(line);
    }
    whole = end + 1;
  }
  if (whole == 0 && !one_line(head).starts_with(text))
    fail_input("{}: not a file of samples", path_.string());
  if (ftruncate(fd_, off_t(whole)) != 0 || lseek(fd_, off_t(whole), SEEK_SET) < 0) fail_write(path_);
  if (whole == 0) write_line(head);
}

const Json* SampleFile::find(const std::string& cache, const std::string& id) const {
  const auto found = done_.find({cache, id});
  return found == done_.end() ? nullptr : &found->second;
}

void SampleFile::add(const Json& sample) {
  write_line(sample);
  done_[{sample.at("cache"), sample.at("id")}] = sample;
}

void SampleFile::write_line(const Json& line) {
  const std::string text = one_line(line);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t n = write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_write(path_);
    rest.remove_prefix(size_t(n));
  }
  if (fsync(fd_) != 0) fail_write(path_);
}

}  // namespace blockgtq
