#include "report/ticks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace blockgtq {
namespace {

/// The smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`.
double nice_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (double m : {1.0, 2.0, 5.0})
    if (m * power >= least * (1 - 1e-9)) return m * power;
  return 10 * power;
}

std::vector<double> linear_ticks(double lo, double hi, double step) {
  std::vector<double> ticks;
  const double first = std::ceil(lo / step - 1e-9);
  const int n =
      int(std::clamp(hi / step + 1e-9 - first, -1.0, 100.0)) + 1;  // a count: first + 1 may equal first
  for (int i = 0; i < n; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::vector<double> log_ticks(double lo, double hi, int most) {
  std::vector<double> ticks;
  const int first = int(std::floor(std::log10(lo))), last = int(std::ceil(std::log10(hi)));
  const int every = std::max(1, (last - first) / std::max(1, most));
  for (const std::vector<double>& mantissas :
       {std::vector<double>{1}, {1, 2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}) {
    ticks.clear();
    for (int e = first; e <= last; e += every)
      for (double m : mantissas)
        if (const double v = m * std::pow(10.0, e); v >= lo * (1 - 1e-9) && v <= hi * (1 + 1e-9))
          ticks.push_back(v);
    if (ticks.size() >= 3) return ticks;
  }
  return ticks.size() >= 2 ? ticks : linear_ticks(lo, hi, nice_step((hi - lo) / most));
}

}  // namespace

double Axis::at(double value) const {
  const double share = log ? std::log(value / lo) / std::log(hi / lo) : (value - lo) / (hi - lo);
  return start + share * (end - start);
}

Axis make_axis(const std::vector<double>& values, bool log, bool is_y, int most) {
  double lo = std::numeric_limits<double>::infinity(), hi = -lo;
  bool whole = true;
  for (double v : values) {
    if (!std::isfinite(v) || (log && v <= 0)) continue;
    lo = std::min(lo, v);
    hi = std::max(hi, v);
    whole &= v == std::floor(v);
  }
  Axis axis;
  axis.log = log;
  if (lo > hi) lo = hi = 1;  // nothing to show: any range will do
  if (log) {
    axis.lo = is_y ? lo / 1.2 : lo;
    axis.hi = is_y ? hi * 1.2 : hi;
    if (axis.lo == axis.hi) axis.lo /= 2, axis.hi *= 2;
    axis.ticks = log_ticks(axis.lo, axis.hi, most);
    return axis;
  }
  if (is_y && lo >= 0) lo = 0;
  if (lo == hi) {
    const double room = lo == 0 ? 1 : 0.5 * std::abs(lo);
    axis.lo = is_y ? lo : lo - room;
    axis.hi = hi + room;
    axis.ticks = {lo};
    return axis;
  }
  const double step = std::max(nice_step((hi - lo) / most), whole && !is_y ? 1.0 : 0.0);
  axis.lo = is_y ? std::floor(lo / step + 1e-9) * step : lo;
  axis.hi = is_y ? std::ceil(hi / step - 1e-9) * step : hi;
  axis.ticks = linear_ticks(axis.lo, axis.hi, step);
  return axis;
}

std::string tick_text(double value) {
  return fmt::format("{:g}", std::abs(value) < 1e-300 ? 0.0 : value);
}

}  // namespace blockgtq
