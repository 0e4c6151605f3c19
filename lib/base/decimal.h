#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace blockgtq {

/// A whole text as a decimal number; nothing where it is anything else: another base (0x10, 0b1), a leading
/// zero (0100, which C reads as 64), '+', white space, digits grouped by marks, text behind it, a number that
/// the type does not hold, infinity, NaN. A fraction and an exponent are for parse_decimal alone.
std::optional<int64_t> parse_whole(std::string_view text);
std::optional<uint64_t> parse_unsigned(std::string_view text);
std::optional<double> parse_decimal(std::string_view text);

/// "007", "-01": digits behind a zero.
bool has_leading_zero(std::string_view text);

}  // namespace blockgtq
