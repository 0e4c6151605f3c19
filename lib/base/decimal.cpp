#include "base/decimal.h"

#include <charconv>
#include <cmath>

namespace blockgtq {
namespace {

template <class T>
std::optional<T> parse(std::string_view text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || has_leading_zero(text)) return std::nullopt;
  return value;
}

}  // namespace

bool has_leading_zero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
}

std::optional<int64_t> parse_whole(std::string_view text) {
  return parse<int64_t>(text);
}

std::optional<uint64_t> parse_unsigned(std::string_view text) {
  return parse<uint64_t>(text);
}

std::optional<double> parse_decimal(std::string_view text) {
  const std::optional<double> value = parse<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

}  // namespace blockgtq
