#include "report/number.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace blockgtq {

// std::to_chars and not fmt, because fmt's text of a whole double differs between its versions.
std::string exact(double value) {
  if (std::isnan(value)) return "";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::string three_digits(double value) {
  if (std::isnan(value)) return "";
  if (value == 0) return "0";
  if (!std::isfinite(value)) return value < 0 ? "-inf" : "inf";
  // Halves are rounded up, also where the mean of 2.125 and 2.125 came out one bit lower.
  value += 1e-12 * value;
  const std::string rounded = fmt::format("{:.2e}", value);  // 9.996 -> 1.00e+01: the exponent after rounding
  const int exponent = std::atoi(rounded.c_str() + rounded.find('e') + 1);
  if (exponent < -4 || exponent > 8) return rounded;
  return fmt::format("{:.{}f}", value, exponent >= 2 ? 0 : 2 - exponent);
}

std::string percent(double share) {
  if (std::isnan(share)) return "";
  const std::string text = fmt::format("{:.1f} %", 100 * share);
  return text == "-0.0 %" ? "0.0 %" : text;
}

}  // namespace blockgtq
