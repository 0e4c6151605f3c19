#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// A tensor of a file to be written.
struct TensorEntry {
  std::string name;
  std::string dtype_name;  // as the format spells it: "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
};

/// Writes one safetensors file tensor by tensor, without holding anything back: the header at once, then the
/// bytes in the order of the entries. The caller commits the file. Errors are Exit::output.
class SafetensorsWriter {
 public:
  SafetensorsWriter(OutputFile& file, const std::vector<TensorEntry>& entries,
                    const std::map<std::string, std::string>& metadata);
  void write(std::span<const std::byte> bytes);
  /// check()s that every byte that the header promised was written.
  void finish() const;

 private:
  OutputFile& file_;
  uint64_t left_ = 0;
};

}  // namespace blockgtq
