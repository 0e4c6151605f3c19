// Writes GGUF files for tests, true ones and lying ones.
#pragma once
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "hf/safetensors_builder.h"

namespace blockgtq::test {

/// Little-endian bytes of a number.
template <class T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
inline std::string raw_string(const std::string& text) {
  return raw(uint64_t(text.size())) + text;
}

/// Metadata and tensors in the order they are added; what was put in last under a key or name counts.
class GgufBuilder {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::string behind;  // bytes after the last tensor's padding

  GgufBuilder& set(const std::string& key, uint32_t type, const std::string& bytes) {
    for (auto& [k, value] : values_) {
      if (k == key) {
        value = raw(type) + bytes;
        return *this;
      }
    }
    values_.emplace_back(key, raw(type) + bytes);
    return *this;
  }
  GgufBuilder& integer(const std::string& key, uint32_t value) { return set(key, 4, raw(value)); }
  GgufBuilder& number(const std::string& key, float value) { return set(key, 6, raw(value)); }
  GgufBuilder& flag(const std::string& key, bool value) { return set(key, 7, raw(uint8_t(value))); }
  GgufBuilder& text(const std::string& key, const std::string& value) {
    return set(key, 8, raw_string(value));
  }
  GgufBuilder& texts(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = raw(uint32_t(8)) + raw(uint64_t(values.size()));
    for (const std::string& v : values) bytes += raw_string(v);
    return set(key, 9, bytes);
  }
  template <class T>
  GgufBuilder& array(const std::string& key, uint32_t type, const std::vector<T>& values) {
    std::string bytes = raw(type) + raw(uint64_t(values.size()));
    for (T v : values) bytes += raw(v);
    return set(key, 9, bytes);
  }
  GgufBuilder& erase(const std::string& key) {
    std::erase_if(values_, [&](const auto& v) { return v.first == key; });
    return *this;
  }

  struct Entry {
    std::string name;
    std::vector<uint64_t> shape;  // row-major
    uint32_t type = 0;
    std::string bytes;
    uint64_t offset = UINT64_MAX;  // UINT64_MAX: behind the one before
  };
  GgufBuilder& tensor(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type,
                      const std::string& bytes) {
    entries_.push_back({name, shape, type, bytes});
    return *this;
  }
  Entry& entry(const std::string& name) {
    for (Entry& e : entries_)
      if (e.name == name) return e;
    throw std::runtime_error("no tensor " + name);
  }
  std::vector<Entry>& entries() { return entries_; }

  std::string header() const {
    std::string out = "GGUF" + raw(version) + raw(uint64_t(entries_.size())) + raw(uint64_t(values_.size()));
    for (const auto& [key, value] : values_) out += raw_string(key) + value;
    uint64_t at = 0;
    for (const Entry& e : entries_) {
      out += raw_string(e.name) + raw(uint32_t(e.shape.size()));
      for (auto n = e.shape.rbegin(); n != e.shape.rend(); ++n) out += raw(*n);
      out += raw(e.type) + raw(e.offset == UINT64_MAX ? at : e.offset);
      at += padded(e.bytes).size();
    }
    return out;
  }
  std::string bytes() const {
    std::string out = padded(header());
    for (const Entry& e : entries_) out += padded(e.bytes);
    return out + behind;
  }
  void write(const fs::path& path) const { write_bytes(path, bytes()); }

 private:
  std::string padded(std::string s) const {
    s.resize((s.size() + alignment - 1) / alignment * alignment, '\0');
    return s;
  }
  std::vector<std::pair<std::string, std::string>> values_;  // with their types
  std::vector<Entry> entries_;
};

}  // namespace blockgtq::test
