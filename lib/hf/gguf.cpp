// The GGUF format: magic, version, counts, metadata, descriptions of the tensors, padding, and the tensors'
// bytes.
// Every claim is checked before a tensor is returned. Source: docs/gguf.md of ggml.
#include "hf/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/checked.h"
#include "hf/config_fields.h"
#include "hf/model_files.h"

namespace blockgtq {

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;

constexpr std::array<const char*, 13> kTypeNames = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                                    "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                                    "UINT64", "INT64",   "FLOAT64"};
constexpr std::array<uint64_t, 13> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/// A tensor type and its number in the file.
struct ReadType {
  uint32_t id;
  DType dtype;
};
constexpr std::array<ReadType, 16> kReadTypes = {{{0, DType::f32},
                                                  {1, DType::f16},
                                                  {2, DType::q4_0},
                                                  {3, DType::q4_1},
                                                  {6, DType::q5_0},
                                                  {7, DType::q5_1},
                                                  {8, DType::q8_0},
                                                  {10, DType::q2_k},
                                                  {11, DType::q3_k},
                                                  {12, DType::q4_k},
                                                  {13, DType::q5_k},
                                                  {14, DType::q6_k},
                                                  {20, DType::iq4_nl},
                                                  {23, DType::iq4_xs},
                                                  {30, DType::bf16},
                                                  {39, DType::mxfp4}}};

/// Types that are not supported. Messages need their names, and the check of offsets their sizes.
struct KnownType {
  uint32_t id;
  const char* name;
  BlockSize size;
};
constexpr std::array<KnownType, 17> kKnownTypes = {{{16, "IQ2_XXS", {256, 66}},
                                                    {17, "IQ2_XS", {256, 74}},
                                                    {18, "IQ3_XXS", {256, 98}},
                                                    {19, "IQ1_S", {256, 50}},
                                                    {21, "IQ3_S", {256, 110}},
                                                    {22, "IQ2_S", {256, 82}},
                                                    {24, "I8", {1, 1}},
                                                    {25, "I16", {1, 2}},
                                                    {26, "I32", {1, 4}},
                                                    {27, "I64", {1, 8}},
                                                    {28, "F64", {1, 8}},
                                                    {29, "IQ1_M", {256, 56}},
                                                    {34, "TQ1_0", {256, 54}},
                                                    {35, "TQ2_0", {256, 66}},
                                                    {40, "NVFP4", {64, 36}},
                                                    {41, "Q1_0", {128, 18}},
                                                    {42, "Q2_0", {64, 18}}}};

/// A tensor's description, checked on its own.
struct Entry {
  Tensor tensor;
  uint64_t begin = 0, end = 0;  // bytes behind the start of the data
};

/// Reads through the bytes before the tensors. Exit::input, naming what was read, where they end too early.
class Cursor {
 public:
  Cursor(const MappedFile& file, uint64_t at) : file_(file.path().string()), bytes_(file.bytes()), at_(at) {}

  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  std::span<const std::byte> take(uint64_t n, const std::string& what) {
    if (n > left())
      fail_input("{}: {}: {} bytes at {}, past the file's {} bytes", file_, what, n, at_, bytes_.size());
    if (at_ + n > kMaxGgufHeader)
      fail_input("{}: {}: ends at byte {}: metadata and tensor descriptions have {} bytes at most", file_,
                 what, at_ + n, kMaxGgufHeader);
    at_ += n;
    return bytes_.subspan(at_ - n, n);
  }

  template <class T>
  T number(const std::string& what) {
    T out;
    std::memcpy(&out, take(sizeof out, what).data(), sizeof out);
    return out;
  }

  std::string_view string(uint64_t most, const std::string& what) {
    const auto length = number<uint64_t>(what);
    if (length > most) fail_input("{}: {}: a string of {} bytes: {} at most", file_, what, length, most);
    const std::span<const std::byte> text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  std::span<const std::byte> since(uint64_t begin) const { return bytes_.subspan(begin, at_ - begin); }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::span<const std::byte> bytes_;
  uint64_t at_;
};

GgufType read_type(Cursor& cursor, const std::string& what) {
  const auto type = cursor.number<uint32_t>(what);
  if (type >= kTypeNames.size())
    fail_input("{}: {}: type {} is not a GGUF type: 0 to {}", cursor.file(), what, type,
               kTypeNames.size() - 1);
  return GgufType(type);
}

GgufValue read_value(Cursor& cursor, const std::string& what) {
  GgufValue out;
  out.type = read_type(cursor, what);
  if (out.type == GgufType::array) {
    out.is_array = true;
    out.type = read_type(cursor, what);
    if (out.type == GgufType::array)
      fail_input("{}: {}: arrays of arrays are not supported", cursor.file(), what);
    out.count = cursor.number<uint64_t>(what);
  }
  const uint64_t begin = cursor.at();
  if (out.type != GgufType::string) {
    const uint64_t element = kTypeBytes[size_t(out.type)];
    cursor.take(checked_mul(out.count, element, cursor.file() + ": " + what), what);
  } else {
    for (uint64_t i = 0; i < out.count; ++i) cursor.string(kMaxGgufHeader, what);
  }
  out.data = cursor.since(begin);
  return out;
}

GgufMetadata read_metadata(Cursor& cursor, uint64_t n) {
  std::map<std::string, GgufValue> values;
  for (uint64_t i = 0; i < n; ++i) {
    const std::string key(cursor.string(kMaxGgufKey, fmt::format("key {} of {}", i, n)));
    const GgufValue value = read_value(cursor, shown(key));
    if (!values.emplace(key, value).second) fail_input("{}: key {}: there twice", cursor.file(), shown(key));
  }
  return {cursor.file(), std::move(values)};
}

KnownType find_type(uint32_t id, DType& dtype, const std::string& what) {
  for (const ReadType& t : kReadTypes) {
    if (t.id != id) continue;
    dtype = t.dtype;
    return {id, name(dtype), block_size(dtype)};
  }
  for (const KnownType& t : kKnownTypes) {
    if (t.id == id) return t;
  }
  fail_input("{}: type {} is not a GGUF tensor type", what, id);
}

Entry read_entry(Cursor& cursor, uint64_t index, uint64_t alignment) {
  Entry out;
  Tensor& tensor = out.tensor;
  tensor.name = cursor.string(kMaxGgufTensorName, fmt::format("name of tensor {}", index));
  const std::string what = "tensor " + shown(tensor.name), full = cursor.file() + ": " + what;
  const auto dimensions = cursor.number<uint32_t>(what);
  if (dimensions < 1 || dimensions > kMaxDimensions)
    fail_input("{}: {} dimensions: 1 to {}", full, dimensions, kMaxDimensions);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto n = cursor.number<uint64_t>(what);
    if (n == 0 || n > uint64_t(INT64_MAX))
      fail_input("{}: dimension {}: {} is out of range: 1 to {}", full, i, n, INT64_MAX);
    elements = checked_mul(elements, n, full + ": shape");
    tensor.shape.insert(tensor.shape.begin(), int64_t(n));
  }
  const KnownType type = find_type(cursor.number<uint32_t>(what), tensor.dtype, full);
  tensor.dtype_name = type.name;
  if (tensor.shape.back() % type.size.elements != 0)
    fail_input("{}: rows of {} numbers do not fill blocks of {}: {}", full, tensor.shape.back(), type.name,
               type.size.elements);
  out.begin = cursor.number<uint64_t>(what);
  if (out.begin % alignment != 0)
    fail_input("{}: begins at {}: a multiple of {}", full, out.begin, alignment);
  const uint64_t blocks = elements / uint64_t(type.size.elements);
  out.end = checked_add(out.begin, checked_mul(blocks, uint64_t(type.size.bytes), full + ": shape"),
                        full + ": offset");
  return out;
}

/// Checks that the tensors, in the order of their offsets, follow each other with no more than padding
/// between.
void check_cover(const std::vector<Entry>& entries, uint64_t data_bytes, uint64_t alignment,
                 const std::string& file) {
  std::vector<const Entry*> order;
  for (const Entry& e : entries) order.push_back(&e);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return std::pair(a->begin, a->tensor.name) < std::pair(b->begin, b->tensor.name);
  });
  const auto padded = [&](uint64_t n) { return (n + alignment - 1) / alignment * alignment; };
  uint64_t at = 0;
  const Entry* last = nullptr;
  for (const Entry* e : order) {
    const std::string what = file + ": tensor " + shown(e->tensor.name);
    if (e->end > data_bytes)
      fail_input("{}: ends at {}, past the file's {} data bytes", what, e->end, data_bytes);
    if (last && e->begin < last->end)
      fail_input("{}: begins at {}, inside tensor {}, which ends at {}", what, e->begin,
                 shown(last->tensor.name), last->end);
    if (e->begin > at)
      fail_input("{}: begins at {}, which leaves a hole of {} bytes before it", what, e->begin,
                 e->begin - at);
    at = padded(e->end);
    last = e;
  }
  if (data_bytes > at) fail_input("{}: {} bytes behind the last tensor: none", file, data_bytes - at);
}

void check_version(uint32_t version, const std::string& file) {
  if (version == 2 || version == 3) return;
  if ((version & 0xffff) == 0 && version != 0)
    fail_input("{}: a big-endian GGUF file is not supported: little-endian", file);
  fail_input("{}: GGUF version {} is not supported: 2 and 3", file, version);
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  const std::string key = "general.alignment";
  const auto alignment = uint64_t(metadata.integer_or(key, kDefaultAlignment, 1, int64_t(kMaxGgufAlignment)));
  if ((alignment & (alignment - 1)) != 0)
    metadata.fail(key, fmt::format("{} is not a power of two", alignment));
  return alignment;
}

}  // namespace

const char* name(GgufType type) {
  return kTypeNames[size_t(type)];
}

bool is_gguf(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  if (path.extension() == ".gguf") return true;
  std::array<char, kMagic.size()> first{};
  std::ifstream file(path, std::ios::binary);
  file.read(first.data(), first.size());
  return std::string_view(first.data(), first.size()) == kMagic;
}

GgufFile read_gguf(const MappedFile& file) {
  const std::string path = file.path().string();
  if (file.text().substr(0, kMagic.size()) != kMagic)
    fail_input("{}: not a GGUF file: it does not begin with {}", path, kMagic);
  Cursor cursor(file, kMagic.size());
  GgufFile out;
  out.version = cursor.number<uint32_t>("version");
  check_version(out.version, path);
  const auto n_tensors = cursor.number<uint64_t>("number of tensors");
  const auto n_values = cursor.number<uint64_t>("number of keys");
  if (n_tensors > kMaxTensors) fail_input("{}: {} tensors: {} at most", path, n_tensors, kMaxTensors);
  if (n_values > kMaxGgufKeys) fail_input("{}: {} keys: {} at most", path, n_values, kMaxGgufKeys);
  out.metadata = read_metadata(cursor, n_values);
  const uint64_t alignment = read_alignment(out.metadata);
  std::vector<Entry> entries;
  std::set<std::string> names;
  for (uint64_t i = 0; i < n_tensors; ++i) {
    entries.push_back(read_entry(cursor, i, alignment));
    const std::string& name = entries.back().tensor.name;
    if (!names.insert(name).second) fail_input("{}: tensor {}: there twice", path, shown(name));
  }
  out.data_offset = (cursor.at() + alignment - 1) / alignment * alignment;
  const std::span<const std::byte> bytes = file.bytes();
  const auto data = bytes.subspan(std::min<uint64_t>(out.data_offset, bytes.size()));
  check_cover(entries, data.size(), alignment, path);
  for (Entry& e : entries) {
    e.tensor.data = data.subspan(e.begin, e.end - e.begin);
    out.tensors.push_back(std::move(e.tensor));
  }
  return out;
}

}  // namespace blockgtq
