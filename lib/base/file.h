#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace blockgtq {

namespace fs = std::filesystem;

/// A regular file mapped read-only. Errors name the path (Exit::input); a Git LFS pointer is one.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const fs::path& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const fs::path& path() const { return path_; }

  /// Tells the kernel that these bytes are wanted soon, or not any more (they leave the resident set;
  /// the page cache keeps them). Only a hint; whole pages inside the range are affected.
  void prefetch(std::span<const std::byte> part) const;
  void release(std::span<const std::byte> part) const;

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A whole text file of at most max_bytes; no Git LFS pointer.
std::string read_text(const fs::path& path, size_t max_bytes);

/// An output that appears under its name only when complete: written to a temporary file beside the target,
/// fsynced and renamed by commit(); without commit() nothing stays behind, also on SIGINT and SIGTERM.
/// Construction checks that the target may be written (Exit::output: exists without force, no such folder,
/// read-only) so that a long run fails at its start and not at its end.
class OutputFile {
 public:
  OutputFile(fs::path target, bool force);
  OutputFile(const OutputFile&) = delete;
  ~OutputFile();

  const fs::path& temporary() const { return temporary_; }
  const fs::path& target() const { return target_; }
  void write(std::string_view text);  // appends to the temporary file, every byte checked
  void commit();

 private:
  void discard() noexcept;

  fs::path target_, temporary_;
  bool force_;
  int slot_ = -1;  // in the list that remove_temporaries() reads
  int fd_ = -1;
};

/// write + commit in one step.
void write_file(const fs::path& target, std::string_view text, bool force);

/// Removes every temporary output that is still open; async-signal-safe (called by the signal handler).
void remove_temporaries() noexcept;

}  // namespace blockgtq
