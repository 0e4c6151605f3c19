#pragma once
#include <fmt/format.h>

#include <string>

namespace blockgtq {

/// Of device memory and what shares it, as tools of the field count it.
template <class Number>
double gib(Number bytes) {
  return double(bytes) / double(1 << 30);
}

/// "1.53 GB", "12.4 MB"
inline std::string bytes_text(double bytes) {
  if (bytes >= 1e9) return fmt::format("{:.2f} GB", bytes / 1e9);
  return fmt::format("{:.1f} MB", bytes / 1e6);
}

}  // namespace blockgtq
