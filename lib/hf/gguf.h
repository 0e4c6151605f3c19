#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "hf/tensor.h"

namespace blockgtq {

inline constexpr uint64_t kMaxGgufHeader = 100'000'000;  // bytes before the tensors
inline constexpr uint64_t kMaxGgufKey = 65535;           // bytes, as the format says
inline constexpr uint64_t kMaxGgufKeys = 1 << 16;
inline constexpr uint64_t kMaxGgufTensorName = 1024;
inline constexpr uint64_t kMaxGgufAlignment = 1 << 20;

/// Types of metadata values, numbered as in the file.
enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
const char* name(GgufType);

/// Of all decimal numbers that round to this float, the one with the shortest text, as a double.
double shortest_decimal(float);

/// A value of the metadata, in the mapped file.
struct GgufValue {
  GgufType type = GgufType::u8;  // of an array: the type of its elements
  bool is_array = false;
  uint64_t count = 1;
  std::span<const std::byte> data;  // of the elements
};

/// The metadata of one file, read strictly: an integer has an integer type, a string is valid UTF-8. Every
/// error is Exit::input "FILE: KEY: what is wrong".
class GgufMetadata {
 public:
  GgufMetadata() = default;
  GgufMetadata(std::string file, std::map<std::string, GgufValue> values)
      : file_(std::move(file)), values_(std::move(values)) {}

  const std::map<std::string, GgufValue>& values() const { return values_; }
  const GgufValue* find(const std::string& key) const;  // null when absent
  bool has(const std::string& key) const { return find(key) != nullptr; }

  /// An array whose elements are all one number counts as that number.
  int64_t integer(const std::string& key, int64_t low, int64_t high) const;
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t low, int64_t high) const;
  /// shortest_decimal() of a float: 1e-5, although float32 only holds a neighbour of it.
  std::optional<double> number(const std::string& key) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;

  std::vector<std::string_view> texts(const std::string& key) const;  // the views are into the file
  std::vector<int64_t> integers(const std::string& key) const;
  std::vector<float> numbers(const std::string& key) const;

  [[noreturn]] void fail(const std::string& key, const std::string& what, const std::string& hint = "") const;

 private:
  const GgufValue& array(const std::string& key, const char* of) const;

  std::string file_;
  std::map<std::string, GgufValue> values_;
};

/// What precedes the tensors of a GGUF file, and the tensors, mapped. Names are the file's own. Shapes are
/// row-major, the reverse of the file's order.
struct GgufFile {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<Tensor> tensors;
  uint64_t data_offset = 0;  // bytes before the first tensor
};

/// Whether a path is treated as a GGUF file: a regular file whose first bytes or name say so.
bool is_gguf(const fs::path& path);

/// Reads and checks all that precedes the tensors: versions 2 and 3, little-endian; lengths and counts
/// against the file's size; no key or name twice; offsets that are aligned, do not overlap and leave no
/// holes. Errors are Exit::input.
GgufFile read_gguf(const MappedFile& file);

}  // namespace blockgtq
