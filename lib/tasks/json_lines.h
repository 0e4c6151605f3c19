#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace blockgtq {

inline constexpr size_t kMaxLinesBytes = size_t(256) << 20;  // of a file of JSON lines

/// The objects of a file of JSON lines, in order, at most `limit` of them (0: all); lines of white space are
/// passed over. `where` names the line for messages: "FILE:12". Exit::input, with file and line, for what is
/// not a JSON object, and for a file that holds none.
void for_each_line(const fs::path& path, int64_t limit,
                   const std::function<void(const Json& line, const std::string& where)>& body);

/// A field of a line. Exit::input where it is missing or of another type.
std::string text_field(const Json& line, const char* name, const std::string& where);
std::vector<std::string> texts_field(const Json& line, const char* name, const std::string& where);
/// The same, but a whole number is accepted too, as its digits.
std::string text_or_number_field(const Json& line, const char* name, const std::string& where);

}  // namespace blockgtq
