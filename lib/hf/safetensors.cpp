// The safetensors format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes. Every
// claim of
// the header is checked before a tensor is returned.
#include "hf/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/json.h"
#include "hf/config_fields.h"

namespace blockgtq {

namespace {

struct DTypeInfo {
  const char* name;
  DType dtype;
  int bits;  // of one element
};

constexpr std::array<DTypeInfo, 23> kDTypes = {{
    {"F32", DType::f32, 32},          {"F16", DType::f16, 16},      {"BF16", DType::bf16, 16},
    {"BOOL", DType::other, 8},        {"U8", DType::other, 8},      {"I8", DType::other, 8},
    {"U16", DType::other, 16},        {"I16", DType::other, 16},    {"U32", DType::other, 32},
    {"I32", DType::other, 32},        {"U64", DType::other, 64},    {"I64", DType::other, 64},
    {"F64", DType::other, 64},        {"C64", DType::other, 64},    {"F8_E4M3", DType::other, 8},
    {"F8_E5M2", DType::other, 8},     {"F8_E8M0", DType::other, 8}, {"F8_E4M3FNUZ", DType::other, 8},
    {"F8_E5M2FNUZ", DType::other, 8}, {"F6_E2M3", DType::other, 6}, {"F6_E3M2", DType::other, 6},
    {"F4", DType::other, 4},          {"F4_E2M1", DType::other, 4},
}};

/// A tensor's entry, checked on its own: its range is inside the data, and as long as dtype and shape say.
struct Entry {
  Tensor tensor;
  uint64_t begin = 0, end = 0;  // bytes behind the header
};

uint64_t read_length(std::span<const std::byte> bytes) {
  uint64_t out = 0;
  for (int i = 7; i >= 0; --i) out = out << 8 | std::to_integer<uint64_t>(bytes[size_t(i)]);
  return out;
}

const Json& member(const Json& entry, const char* key, const std::string& what) {
  const auto it = entry.find(key);
  if (it == entry.end()) fail_input("{}: {}: missing", what, key);
  return *it;
}

/// A list of non-negative integers.
std::vector<uint64_t> read_sizes(const Json& value, const char* key, const std::string& what) {
  if (!value.is_array()) fail_input("{}: {}: expected a list of integers, found {}", what, key, shown(value));
  std::vector<uint64_t> out;
  out.reserve(value.size());
  for (const Json& v : value) {
    if (!v.is_number_unsigned() || v.get<uint64_t>() > uint64_t(INT64_MAX))
      fail_input("{}: {}: expected integers from 0 to {}, found {}", what, key, INT64_MAX, shown(v));
    out.push_back(v.get<uint64_t>());
  }
  return out;
}

const DTypeInfo& read_dtype(const Json& value, const std::string& what) {
  if (value.is_string()) {
    for (const DTypeInfo& info : kDTypes) {
      if (value.get_ref<const std::string&>() == info.name) return info;
    }
  }
  fail_input("{}: dtype: {} is not a safetensors type", what, shown(value));
}

uint64_t byte_length(const DTypeInfo& dtype, const std::vector<uint64_t>& shape, const std::string& what) {
  uint64_t elements = 1;
  for (uint64_t n : shape) elements = checked_mul(elements, n, what + ": shape");
  const uint64_t bits = checked_mul(elements, uint64_t(dtype.bits), what + ": shape");
  if (bits % 8 != 0)
    fail_input("{}: shape: {} elements of {} do not fill whole bytes", what, elements, dtype.name);
  return bits / 8;
}

Entry read_entry(const std::string& name, const Json& json, std::span<const std::byte> data,
                 const std::string& file) {
  const std::string what = file + ": tensor " + shown(name);
  if (!json.is_object()) fail_input("{}: expected an object, found {}", what, shown(json));
  const DTypeInfo& dtype = read_dtype(member(json, "dtype", what), what);
  const std::vector<uint64_t> shape = read_sizes(member(json, "shape", what), "shape", what);
  const std::vector<uint64_t> range = read_sizes(member(json, "data_offsets", what), "data_offsets", what);
  if (json.size() != 3) {
    for (const auto& [key, value] : json.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        fail_input("{}: unknown key {}: dtype, shape, data_offsets", what, shown(key));
    }
  }
  if (range.size() != 2) fail_input("{}: data_offsets: {} numbers: 2", what, range.size());
  if (range[0] > range[1])
    fail_input("{}: data_offsets: begins at {}, behind its end {}", what, range[0], range[1]);
  if (range[1] > data.size())
    fail_input("{}: data_offsets: ends at {}, past the file's {} data bytes", what, range[1], data.size());
  const uint64_t bytes = byte_length(dtype, shape, what);
  if (bytes != range[1] - range[0])
    fail_input("{}: data_offsets: {} bytes, dtype and shape say {}", what, range[1] - range[0], bytes);

  Entry out;
  out.begin = range[0];
  out.end = range[1];
  out.tensor.name = name;
  out.tensor.dtype = dtype.dtype;
  out.tensor.dtype_name = dtype.name;
  out.tensor.shape.assign(shape.begin(), shape.end());
  out.tensor.data = data.subspan(range[0], bytes);
  return out;
}

void check_metadata(const Json& json, const std::string& file) {
  if (!json.is_object()) fail_input("{}: __metadata__: expected an object, found {}", file, shown(json));
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string())
      fail_input("{}: __metadata__: {}: expected a string, found {}", file, shown(key), shown(value));
  }
}

/// Checks that the ranges, in order, follow each other from the first data byte to the last.
void check_cover(std::vector<Entry>& entries, uint64_t data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end) ||
           (a.begin == b.begin && a.end == b.end && a.tensor.name < b.tensor.name);
  });
  uint64_t at = 0;
  const Entry* last = nullptr;
  for (const Entry& e : entries) {
    if (e.begin < at)
      fail_input("{}: tensor {}: begins at {}, inside tensor {}, which ends at {}", file,
                 shown(e.tensor.name), e.begin, shown(last->tensor.name), at);
    if (e.begin > at)
      fail_input("{}: tensor {}: begins at {}, which leaves a hole of {} bytes before it", file,
                 shown(e.tensor.name), e.begin, e.begin - at);
    at = e.end;
    last = &e;
  }
  if (at != data_bytes) fail_input("{}: {} bytes behind the last tensor: none", file, data_bytes - at);
}

}  // namespace

std::vector<Tensor> read_safetensors(const MappedFile& file) {
  constexpr size_t kLengthBytes = 8;
  const std::string path = file.path().string();
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() < kLengthBytes)
    fail_input("{}: not a safetensors file: {} bytes, at least {}", path, bytes.size(), kLengthBytes);
  const uint64_t header = read_length(bytes);
  if (header > kMaxSafetensorsHeader)
    fail_input("{}: header of {} bytes is too long: {} bytes at most", path, header, kMaxSafetensorsHeader);
  if (header > bytes.size() - kLengthBytes)
    fail_input("{}: header of {} bytes ends past the file's {} bytes", path, header, bytes.size());
  const std::string_view text = file.text().substr(kLengthBytes, header);
  if (text.empty() || text[0] != '{') fail_input("{}: header: does not begin with {{", path);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + header);

  const Json json = parse_json(text, path + ": header", kMaxHeaderValues);
  std::vector<Entry> entries;
  entries.reserve(json.size());
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      check_metadata(value, path);
    } else {
      entries.push_back(read_entry(name, value, data, path));
    }
  }
  check_cover(entries, data.size(), path);
  std::vector<Tensor> out;
  out.reserve(entries.size());
  for (Entry& e : entries) out.push_back(std::move(e.tensor));
  return out;
}

}  // namespace blockgtq
