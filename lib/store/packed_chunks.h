#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// Where a packed chunk of an array lies in a file, in bytes, and the checksum that it ends with.
struct ChunkPlace {
  uint64_t address = 0, bytes = 0, checksum = 0;
};

/// The packed chunks of arrays in a file that a killed run left half written. HDF5 does not see that file: it
/// crashes on some damaged ones. What is between the chunks is not read.
class PackedChunks {
 public:
  PackedChunks(const fs::path& path, std::vector<ChunkPlace> places)
      : file_(path), places_(std::move(places)) {}

  /// One after the other. Exit::input where there is none, or the bytes there have another checksum than the
  /// one noted.
  std::string_view next();
  bool at_end() const { return n_read_ == places_.size(); }

 private:
  MappedFile file_;
  std::vector<ChunkPlace> places_;
  size_t n_read_ = 0;
};

}  // namespace blockgtq
