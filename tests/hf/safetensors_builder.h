// Writes safetensors files for tests, true ones and lying ones.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace blockgtq::test {

namespace fs = std::filesystem;

/// A folder of its own that goes away with the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (fs::temp_directory_path() / "blockgtq-test-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// A new file each time: some file systems flush one that was cut to nothing and written again to the disk.
inline void write_bytes(const fs::path& path, const std::string& bytes) {
  fs::remove(path);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), std::streamsize(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

/// Length, header, data as given, whatever they say.
inline std::string raw_safetensors(const std::string& header, const std::string& data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += char(uint64_t(header.size()) >> (8 * i) & 0xff);
  return out + header + data;
}

/// Tensors one after the other, with a header that tells the truth.
class SafetensorsBuilder {
 public:
  SafetensorsBuilder& add(const std::string& name, const std::string& dtype,
                          const std::vector<int64_t>& shape, const std::string& bytes) {
    header_[name] = {
        {"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
    return *this;
  }
  /// 2-byte elements, all of the same bits (0x3f80 is 1 in bf16).
  SafetensorsBuilder& add_bf16(const std::string& name, const std::vector<int64_t>& shape,
                               uint16_t bits = 0x3f80) {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    std::string bytes;
    for (int64_t i = 0; i < n; ++i) bytes += {char(bits & 0xff), char(bits >> 8)};
    return add(name, "BF16", shape, bytes);
  }
  nlohmann::ordered_json& header() { return header_; }  // to tell lies
  std::string bytes() const { return raw_safetensors(header_.dump(), data_); }
  void write(const fs::path& path) const { write_bytes(path, bytes()); }

 private:
  nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
  std::string data_;
};

}  // namespace blockgtq::test
