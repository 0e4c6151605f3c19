#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// An axis: values from lo to hi onto pixels from start to end, with the values to mark.
struct Axis {
  double lo = 0, hi = 1;
  bool log = false;
  double start = 0, end = 1;
  std::vector<double> ticks;

  /// The pixel of a value.
  double at(double value) const;
};

/// An axis that covers the finite values (the positive ones when log); about `most` ticks. An x axis spans
/// just the values, whole ones marked by whole numbers; a y axis has room around them, and a linear one of
/// values >= 0 begins at 0.
Axis make_axis(const std::vector<double>& values, bool log, bool is_y, int most);

/// The text of a tick: 0.5, 20, 1e-05.
std::string tick_text(double value);

}  // namespace blockgtq
