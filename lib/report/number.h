#pragma once
#include <string>

namespace blockgtq {

/// The shortest text that reads back as the same double; empty for NaN.
std::string exact(double value);

/// About three significant digits: 0.0123, 1.20, 34.0, 204, 1632; empty for NaN.
std::string three_digits(double value);

/// A share as per cent with one decimal, "18.1 %"; empty for NaN. A negative one has an ASCII minus.
std::string percent(double share);

}  // namespace blockgtq
