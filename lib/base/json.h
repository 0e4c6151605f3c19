#pragma once
#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace blockgtq {

using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonValues = size_t(1) << 22;
inline constexpr size_t kMaxJsonToken = size_t(1) << 24;  // bytes of a string, a number, a gap

/// Strict parse by RFC 8259: valid UTF-8, no byte order mark, no duplicate key in an object, depth at most
/// kMaxJsonDepth, at most max_values values (a list or an object counts as one besides what it holds),
/// numbers that a double or 64-bit integer can hold, and at most kMaxJsonToken bytes between two values.
/// Errors are Exit::input with `name`, line and column.
Json parse_json(std::string_view text, const std::string& name, size_t max_values = kMaxJsonValues);

/// parse_json() of a file of at most max_bytes. Exit::input also where it cannot be read.
Json read_json(const std::filesystem::path& path, size_t max_bytes);

/// The text of our own JSON files: two spaces of indentation, doubles with 17 significant digits (which read
/// back bit for bit), keys in the order of insertion, newline at the end.
std::string dump_json(const Json& value);

}  // namespace blockgtq
