#pragma once
#include <fmt/format.h>

#include <optional>
#include <string>

#include "hf/gguf.h"

namespace blockgtq {

/// The metadata of one architecture. Keys are given without its prefix ("llama.").
class GgufKeys {
 public:
  GgufKeys(const std::string& architecture, const GgufMetadata& metadata)
      : prefix_(architecture + "."), metadata_(metadata) {}

  const GgufMetadata& metadata() const { return metadata_; }
  std::string full(const std::string& key) const { return prefix_ + key; }
  bool has(const std::string& key) const { return metadata_.has(full(key)); }
  int64_t integer(const std::string& key, int64_t low, int64_t high) const {
    return metadata_.integer(full(key), low, high);
  }
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
    return metadata_.integer_or(full(key), fallback, low, high);
  }
  std::optional<double> number(const std::string& key) const { return metadata_.number(full(key)); }
  double positive(const std::string& key) const {
    const std::optional<double> value = number(key);
    if (!value) fail(key, "missing: a number above 0");
    if (!(*value > 0)) fail(key, fmt::format("{} is out of range: above 0", *value));
    return *value;
  }
  bool flag(const std::string& key, bool fallback) const { return metadata_.flag(full(key), fallback); }
  std::string text(const std::string& key, const std::string& fallback) const {
    return metadata_.text(full(key), fallback);
  }
  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    metadata_.fail(full(key), what);
  }

 private:
  std::string prefix_;
  const GgufMetadata& metadata_;
};

}  // namespace blockgtq
