// Typed access to a GGUF file's metadata.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "hf/config_fields.h"
#include "hf/gguf.h"
#include "hf/utf8.h"

namespace blockgtq {

namespace {

template <class T>
T element(const GgufValue& value, uint64_t i) {
  T out;
  std::memcpy(&out, value.data.data() + i * sizeof out, sizeof out);
  return out;
}

/// Whether the type is an integer; then `out` is element i, at most INT64_MAX.
bool integer_at(const GgufValue& value, uint64_t i, int64_t& out) {
  switch (value.type) {
    case GgufType::u8:
      out = element<uint8_t>(value, i);
      return true;
    case GgufType::i8:
      out = element<int8_t>(value, i);
      return true;
    case GgufType::u16:
      out = element<uint16_t>(value, i);
      return true;
    case GgufType::i16:
      out = element<int16_t>(value, i);
      return true;
    case GgufType::u32:
      out = element<uint32_t>(value, i);
      return true;
    case GgufType::i32:
      out = element<int32_t>(value, i);
      return true;
    case GgufType::u64:
      out = int64_t(std::min<uint64_t>(element<uint64_t>(value, i), uint64_t(INT64_MAX)));
      return true;
    case GgufType::i64:
      out = element<int64_t>(value, i);
      return true;
    default:
      return false;
  }
}

/// "an array of STRING", "FLOAT32"
std::string type_text(const GgufValue& value) {
  return (value.is_array ? "an array of " : "") + std::string(name(value.type));
}

}  // namespace

double shortest_decimal(float x) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, x);
  double out = x;
  std::from_chars(text, end, out);
  return out;
}

void GgufMetadata::fail(const std::string& key, const std::string& what, const std::string& hint) const {
  throw Error(Exit::input, fmt::format("{}: {}: {}", file_, key, what), hint);
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

int64_t GgufMetadata::integer(const std::string& key, int64_t low, int64_t high) const {
  const GgufValue* value = find(key);
  if (!value) fail(key, fmt::format("missing: an integer from {} to {}", low, high));
  int64_t out = 0, other = 0;
  if (value->count == 0 || !integer_at(*value, 0, out))
    fail(key, fmt::format("expected an integer, found {}", type_text(*value)));
  for (uint64_t i = 1; i < value->count; ++i) {
    integer_at(*value, i, other);
    if (other != out) fail(key, fmt::format("{} and {}: layers that differ are not supported", out, other));
  }
  if (out < low || out > high) fail(key, fmt::format("{} is out of range: {} to {}", out, low, high));
  return out;
}

int64_t GgufMetadata::integer_or(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
  return has(key) ? integer(key, low, high) : fallback;
}

std::optional<double> GgufMetadata::number(const std::string& key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  double out = 0;
  if (value->is_array || (value->type != GgufType::f32 && value->type != GgufType::f64))
    fail(key, fmt::format("expected a number, found {}", type_text(*value)));
  out =
      value->type == GgufType::f32 ? shortest_decimal(element<float>(*value, 0)) : element<double>(*value, 0);
  if (!std::isfinite(out)) fail(key, "expected a finite number");
  return out;
}

bool GgufMetadata::flag(const std::string& key, bool fallback) const {
  const GgufValue* value = find(key);
  if (!value) return fallback;
  if (value->is_array || value->type != GgufType::boolean)
    fail(key, fmt::format("expected BOOL, found {}", type_text(*value)));
  const auto byte = element<uint8_t>(*value, 0);
  if (byte > 1) fail(key, fmt::format("byte {} is neither true nor false: 0, 1", byte));
  return byte == 1;
}

std::string GgufMetadata::text(const std::string& key, const std::string& fallback) const {
  const GgufValue* value = find(key);
  if (!value) return fallback;
  if (value->is_array || value->type != GgufType::string)
    fail(key, fmt::format("expected a string, found {}", type_text(*value)));
  return std::string(texts(key)[0]);
}

const GgufValue& GgufMetadata::array(const std::string& key, const char* of) const {
  const GgufValue* value = find(key);
  if (!value) fail(key, fmt::format("missing: an array of {}", of));
  return *value;
}

std::vector<std::string_view> GgufMetadata::texts(const std::string& key) const {
  const GgufValue& value = array(key, "strings");
  if (value.type != GgufType::string)
    fail(key, fmt::format("expected an array of strings, found {}", type_text(value)));
  std::vector<std::string_view> out;
  out.reserve(value.count);
  for (size_t at = 0; out.size() < value.count;) {
    uint64_t length = 0;
    std::memcpy(&length, value.data.data() + at, sizeof length);
    at += sizeof length;
    out.emplace_back(reinterpret_cast<const char*>(value.data.data()) + at, length);
    at += length;
    if (const size_t invalid = find_invalid_utf8(out.back()); invalid < length)
      fail(key, fmt::format("string {} is not UTF-8: byte 0x{:02X} at {}", out.size() - 1,
                            static_cast<unsigned char>(out.back()[invalid]), invalid));
  }
  return out;
}

std::vector<int64_t> GgufMetadata::integers(const std::string& key) const {
  const GgufValue& value = array(key, "integers");
  std::vector<int64_t> out(value.count);
  for (size_t i = 0; i < out.size(); ++i)
    if (!integer_at(value, i, out[i]))
      fail(key, fmt::format("expected an array of integers, found {}", type_text(value)));
  return out;
}

std::vector<float> GgufMetadata::numbers(const std::string& key) const {
  const GgufValue& value = array(key, "FLOAT32");
  if (value.type != GgufType::f32)
    fail(key, fmt::format("expected an array of FLOAT32, found {}", type_text(value)));
  std::vector<float> out(value.count);
  if (!out.empty()) std::memcpy(out.data(), value.data.data(), value.data.size());
  return out;
}

}  // namespace blockgtq
