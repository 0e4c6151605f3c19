#pragma once
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/sha256.h"

namespace blockgtq {

inline constexpr size_t kMaxStreamBytes = size_t(256) << 20;

/// The first bytes of a text: a file, mapped; or what comes from standard input ("-"), a pipe or a device,
/// held in memory, and no more of it than kMaxStreamBytes.
class TextSource {
 public:
  /// Exit::input names what cannot be opened or read, Exit::usage a second "-"; waiting for a pipe ends with
  /// check_stop().
  TextSource(const fs::path& path, size_t max_bytes);

  /// At most max_bytes.
  std::string_view text() const;
  /// find_invalid_utf8 of text(), and text() into a hash: block by block, which leave the resident set, since
  /// mapped text may be larger than what memory is free.
  size_t find_invalid() const;
  void add_to(Sha256& hash) const;
  /// Whether there is more behind text().
  bool is_cut() const { return cut_; }
  /// How much of it is read at most.
  size_t max_bytes() const { return max_bytes_; }
  /// For messages: the path, or "standard input".
  const std::string& name() const { return name_; }
  /// For descriptions: the file's name, without the number that a shell gives to a pipe.
  std::string short_name() const;

 private:
  void read_stream(int fd);
  void forget(size_t begin, size_t end) const;

  std::string name_;
  size_t max_bytes_;
  bool cut_ = false, is_stream_ = false;
  MappedFile file_;
  std::string held_;
};

}  // namespace blockgtq
