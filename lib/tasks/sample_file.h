#pragma once
#include <map>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "base/resume.h"

namespace blockgtq {

/// The answers of a run so far, as a file of JSON lines. The first line says what the answers depend on.
/// Every other line is an answer, with its "cache" and "id". A line is on disk before add() returns. A line
/// that a killed run left unfinished is dropped.
class SampleFile {
 public:
  /// Opens the file or begins it, and locks it against other runs. Exit::input, with the line, for a file of
  /// another kind; field by field, for one with another head; and where Resume::must finds no file.
  /// Exit::output where it cannot be written, is locked, or exists and is not to be resumed. With force such
  /// a file is begun anew.
  SampleFile(const fs::path& path, const Json& head, Resume resume, bool force);
  SampleFile(const SampleFile&) = delete;
  ~SampleFile();

  /// The answer to this question under this cache; null where there is none yet.
  const Json* find(const std::string& cache, const std::string& id) const;
  void add(const Json& sample);

 private:
  void read(const Json& head);
  void write_line(const Json& line);

  fs::path path_;
  int fd_ = -1;
  std::map<std::pair<std::string, std::string>, Json> done_;
};

}  // namespace blockgtq
