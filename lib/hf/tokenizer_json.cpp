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
  if (!value.is_number_unsigned()) return -1;  // what the parser makes of every integer without a minus
  const auto n = value.get<uint64_t>();
  return n <= uint64_t(INT64_MAX) ? int64_t(n) : -1;
}

std::string get_type(const Json& part, const std::string& where) {
  return get_string(part, "type", where);
}

}  // namespace blockgtq
