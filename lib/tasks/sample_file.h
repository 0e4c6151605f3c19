#pragma once
#include <map>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "base/resume.h"

namespace blockgtq {

/// What a run has answered so far: a file of JSON lines. The first says what the answers depend on, every
/// other one is an answer, with its "cache" and "id". A line is on the disk before add() returns; one that a
/// killed run left unfinished is dropped.
class SampleFile {
 public:
  /// Opens or begins the file, and keeps other runs out. Exit::input, with the line, for a file that is none
  /// of these; for one of another head, field by field; and where `must` finds no file. Exit::output where it
  /// cannot be written, is locked, or exists and is not to be resumed; with force it is begun anew then.
  SampleFile(const fs::path& path, const Json& head, Resume resume, bool force);
  SampleFile(const SampleFile&) = delete;
  ~SampleFile();

  /// The answer under this cache; null where there is none yet.
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
