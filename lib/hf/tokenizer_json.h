#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "hf/pattern_syntax.h"

namespace blockgtq {

inline constexpr size_t kMaxPatternBytes = 16 << 10;  // of an expression, or of a text that is replaced
/// No stage makes more of a text than this many times its bytes, and kMinGrowth.
inline constexpr size_t kMaxGrowth = 64, kMinGrowth = 4096;

/// Members of a tokenizer.json object; `where` names the object in messages. Exit::input when a member is
/// missing or has the wrong type.
const Json* find_member(const Json& object, const char* key);  // null when absent or null
const Json& get_member(const Json& object, const char* key, const std::string& where);
bool get_bool(const Json& object, const char* key, const std::string& where,
              std::optional<bool> when_absent = std::nullopt);
std::string get_string(const Json& object, const char* key, const std::string& where);

/// The value as an integer that fits; -1 for everything else.
int64_t non_negative(const Json& value);

/// The member "pattern" of a part, {"String": ..} or {"Regex": ..}, as an expression.
Pcre2Text read_pattern(const Json& part, const std::string& where);

/// The "prepend_scheme" of a Metaspace (always, first or never); older files have "add_prefix_space".
std::string read_prepend_scheme(const Json& part, const std::string& where);

/// The member "type" of a part. Exit::input where it is not a string.
std::string get_type(const Json& part, const std::string& where);

}  // namespace blockgtq
