#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace blockgtq {

/// The largest hidden, intermediate and vocabulary size that is accepted. Products of two of them stay far
/// inside 64 bits.
inline constexpr int kMaxWidth = 1 << 24;
inline constexpr int kMaxExperts = 4096;
inline constexpr int kMaxPositions = 1 << 30;

/// Any JSON value or name as one short ASCII line, for messages.
std::string shown(const Json& value);

/// The fields of one JSON object, read strictly: an integer is an integer, not 4.0 and not "4". null counts
/// as absent. Every error is Exit::input "FILE: KEY: what is wrong", where KEY has the path
/// ("rope_scaling.factor").
class ConfigFields {
 public:
  ConfigFields(const Json& object, std::string name, std::string path = "");

  const Json& object() const { return *object_; }
  const Json* find(const std::string& key) const;  // null when absent or null
  bool mentions(const std::string& key) const;     // present, even if null
  bool has(const std::string& key) const { return find(key) != nullptr; }

  /// A required integer in [low, high].
  int integer(const std::string& key, int low, int high) const;
  int integer_or(const std::string& key, int fallback, int low, int high) const;
  std::optional<double> number(const std::string& key) const;  // finite
  double positive(const std::string& key) const;               // finite, > 0
  double positive_or(const std::string& key, double fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;

  /// Another object of the same file.
  ConfigFields with(const Json& object, std::string path) const { return {object, name_, std::move(path)}; }

  /// "FILE: KEY: what"
  std::string message(const std::string& key, const std::string& what) const;
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  const Json* object_;
  std::string name_, path_;
};

}  // namespace blockgtq
