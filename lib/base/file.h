#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace blockgtq {

namespace fs = std::filesystem;

/// A regular file mapped read-only. Every error is Exit::input and names the path. A Git LFS pointer is an
/// error.
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

  /// Tells the kernel that these bytes are needed soon, or not any more: then they leave the resident set,
  /// and the page cache keeps them. Only a hint, for whole pages inside the range.
  void prefetch(std::span<const std::byte> part) const;
  void release(std::span<const std::byte> part) const;

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A whole text file of at most max_bytes. Exit::input for a larger one and for a Git LFS pointer.
std::string read_text(const fs::path& path, size_t max_bytes);

/// An output that appears under its name only when it is complete. It is written to a temporary file beside
/// the target; commit() syncs and renames it. Without commit() nothing stays behind, also on SIGINT and
/// SIGTERM. The constructor checks that the target can be written, so that a long run fails at its start and
/// not at its end: Exit::output where it exists without force, has no folder or is read-only.
class OutputFile {
 public:
  OutputFile(fs::path target, bool force);
  OutputFile(const OutputFile&) = delete;
  ~OutputFile();

  const fs::path& temporary() const { return temporary_; }
  const fs::path& target() const { return target_; }
  void write(std::string_view text);  // appends to the temporary file, every byte checked
  void commit();                      // commit_all of this one
  /// What is written so far, on the disk and under a second name, which stays where this goes without
  /// commit(): a later run may go on with it. Takes the name from another file. Exit::output where that
  /// fails, as on a file system without hard links.
  void keep_as(const fs::path& name);

 private:
  friend void commit_all(std::span<OutputFile* const> files);
  void seal();
  void place();
  void close_checked();
  bool undo() noexcept;
  void finish() noexcept;
  void discard() noexcept;
  bool is_at(const fs::path& path) const noexcept;
  fs::path second_name() const;

  fs::path target_, temporary_;
  fs::path former_;  // a second name of the file that place() replaced; empty: no such file, or no such name
  int former_fd_ = -1;  // holds that file's lock
  bool force_, replaced_ = false;
  int slot_ = -1;  // in the list that remove_temporaries() reads
  int fd_ = -1;
  uint64_t inode_ = 0, device_ = 0;  // of what was written
};

/// Makes several outputs appear together or not at all: all of them are on disk before the first gets its
/// name. Exit::output where anything fails, up to the sync of the folder. Then each target is what it was
/// before, or the message names those that could not be restored.
void commit_all(std::span<OutputFile* const> files);

/// Writes and commits a file in one step.
void write_file(const fs::path& target, std::string_view text, bool force);

/// Removes every temporary output that is still open; async-signal-safe (called by the signal handler).
void remove_temporaries() noexcept;

}  // namespace blockgtq
