#include "hf/fingerprint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/file_state.h"
#include "base/parallel.h"
#include "base/sha256.h"
#include "base/stop.h"

namespace blockgtq {
namespace {

constexpr uint64_t kPieceBytes = 16 << 20;
constexpr size_t kBufferBytes = 256 << 10;
constexpr int kMostThreads = 16;  // more threads do not read faster

/// An open file that is read at offsets. What is read here does not enter a mapping's resident set.
class ReadAt {
 public:
  explicit ReadAt(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_input("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  }
  ReadAt(const ReadAt&) = delete;
  ~ReadAt() { ::close(fd_); }

  std::string hash(uint64_t first, uint64_t n) {
    Sha256 sha;
    while (n > 0) {
      const ssize_t got = ::pread(fd_, buffer_.data(), std::min<uint64_t>(n, buffer_.size()), off_t(first));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_input("{}: cannot be read: {}", path_.string(), std::strerror(errno));
      if (got == 0) fail_input("{}: became shorter while it was read", path_.string());
      sha.update(std::span<const std::byte>(buffer_.data(), size_t(got)));
      first += uint64_t(got);
      n -= uint64_t(got);
    }
    return sha.hex();
  }

 private:
  fs::path path_;
  int fd_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kBufferBytes);
};

}  // namespace

struct Fingerprint::State {
  struct Piece {
    size_t file;
    uint64_t first, bytes;
    std::string digest;
    std::exception_ptr failed;
  };
  std::vector<fs::path> files;
  std::vector<uint64_t> sizes;
  std::vector<Piece> pieces;
  std::vector<std::thread> threads;
  std::atomic<size_t> next{0};
  std::atomic<bool> ended{false};
  std::mutex mutex;
  std::condition_variable done;
  size_t n_done = 0;  // pieces; under the mutex

  void work() noexcept {
    for (size_t i = next++; i < pieces.size() && !ended; i = next++) {
      Piece& piece = pieces[i];
      try {
        piece.digest = ReadAt(files[piece.file]).hash(piece.first, piece.bytes);
      } catch (...) {
        piece.failed = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      if (++n_done == pieces.size()) done.notify_all();
    }
  }
};

Fingerprint::Fingerprint(const std::vector<fs::path>& files) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.files = files;
  for (size_t f = 0; f < files.size(); ++f) {
    s.sizes.push_back(file_state(files[f]).bytes);
    for (uint64_t at = 0; at < s.sizes[f]; at += kPieceBytes)
      s.pieces.push_back({f, at, std::min(kPieceBytes, s.sizes[f] - at), {}, {}});
  }
  const size_t n = std::min<size_t>(s.pieces.size(), size_t(std::clamp(threads(), 1, kMostThreads)));
  try {
    for (size_t i = 0; i < n; ++i) s.threads.emplace_back([&s] { s.work(); });
  } catch (const std::system_error&) {  // no more threads are available: fewer will do
  }
}

Fingerprint::~Fingerprint() {
  state_->ended = true;
  for (std::thread& t : state_->threads) t.join();
}

std::string Fingerprint::hex() {
  State& s = *state_;
  if (s.threads.empty()) s.work();
  {
    std::unique_lock lock(s.mutex);
    while (
        !s.done.wait_for(lock, std::chrono::milliseconds(100), [&] { return s.n_done == s.pieces.size(); }))
      check_stop();
  }
  Sha256 all;
  size_t piece = 0;
  for (size_t f = 0; f < s.files.size(); ++f) {
    std::array<std::byte, 8> length{};
    for (size_t i = 0; i < length.size(); ++i) length[i] = std::byte(s.sizes[f] >> (8 * i) & 0xff);
    all.update(length);
    for (; piece < s.pieces.size() && s.pieces[piece].file == f; ++piece) {
      if (s.pieces[piece].failed) std::rethrow_exception(s.pieces[piece].failed);
      all.update(s.pieces[piece].digest);
    }
  }
  return all.hex();
}

std::shared_ptr<Fingerprint> shared_fingerprint(const std::vector<fs::path>& files) {
  static std::mutex mutex;
  static std::map<std::vector<FileState>, std::shared_ptr<Fingerprint>> all;
  std::vector<FileState> states;
  for (const fs::path& file : files) states.push_back(file_state(file));
  if (!std::all_of(states.begin(), states.end(), [](const FileState& s) { return s.settled(); }))
    return std::make_shared<Fingerprint>(files);
  const std::lock_guard lock(mutex);
  std::shared_ptr<Fingerprint>& found = all[states];
  if (!found) found = std::make_shared<Fingerprint>(files);
  return found;
}

}  // namespace blockgtq
