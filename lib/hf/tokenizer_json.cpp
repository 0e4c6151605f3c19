#include "hf/tokenizer_json.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace blockgtq {

const Json* find_member(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const Json& get_member(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object()) fail_input("{}: not an object: {}", where, object.type_name());
  const Json* value = find_member(object, key);
  if (!value) fail_input("{}: \"{}\" is missing", where, key);
  return *value;
}

bool get_bool(const Json& object, const char* key, const std::string& where,
              std::optional<bool> when_absent) {
  if (when_absent && object.is_object() && !find_member(object, key)) return *when_absent;
  const Json& value = get_member(object, key, where);
  if (!value.is_boolean()) fail_input("{}: \"{}\" is not true or false: {}", where, key, value.type_name());
  return value.get<bool>();
}

std::string get_string(const Json& object, const char* key, const std::string& where) {
  const Json& value = get_member(object, key, where);
  if (!value.is_string()) fail_input("{}: \"{}\" is not a string: {}", where, key, value.type_name());
  return value.get<std::string>();
}

int64_t non_negative(const Json& value) {
  if (!value.is_number_unsigned()) return -1;  // the parser makes one of every integer without a minus
  const auto n = value.get<uint64_t>();
  return n <= uint64_t(INT64_MAX) ? int64_t(n) : -1;
}

Pcre2Text read_pattern(const Json& part, const std::string& where) {
  const Json& pattern = get_member(part, "pattern", where);
  const bool regex = pattern.is_object() && find_member(pattern, "Regex");
  const std::string text = get_string(pattern, regex ? "Regex" : "String", where);
  if (text.size() > kMaxPatternBytes)
    fail_input("{}: the pattern is too long: {} bytes, allowed: {}", where, text.size(), kMaxPatternBytes);
  return regex ? to_pcre2(text, where) : literal_to_pcre2(text);
}

std::string read_prepend_scheme(const Json& json, const std::string& where) {
  const bool add = get_bool(json, "add_prefix_space", where, true);
  const bool has_scheme = find_member(json, "prepend_scheme") != nullptr;
  const std::string scheme = has_scheme ? get_string(json, "prepend_scheme", where) : "always";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fail_input("{}: the prepend_scheme is not supported: {}, allowed: always, first, never", where, scheme);
  if (!add && scheme != "never")
    fail_input("{}: add_prefix_space is false and the prepend_scheme {}, allowed: never", where, scheme);
  return scheme;
}

std::string get_type(const Json& part, const std::string& where) {
  return get_string(part, "type", where);
}

}  // namespace blockgtq
