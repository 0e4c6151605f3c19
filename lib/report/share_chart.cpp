#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "report/chart.h"
#include "report/image.h"
#include "report/number.h"
#include "report/svg.h"
#include "report/ticks.h"

namespace blockgtq {
namespace {

constexpr int kMaxColumns =
    24;  // with gaps between; more layers make one closed area, as fine gaps would flicker
constexpr double kWidth = 400, kHeight = 294, kPlotTop = 54, kPlotBottom = 212, kPlotLeft = 52,
                 kPlotRight = kWidth - 18;

std::string column(int layer, const std::vector<double>& shares, double x, double width, const char* cut) {
  std::string out;
  double below = 0;
  for (int b = 1; b <= 8; ++b) {
    const double share = shares[b - 1];
    if (!(share > 0)) continue;
    const double top = kPlotBottom - (below + share) * (kPlotBottom - kPlotTop),
                 height = share * (kPlotBottom - kPlotTop);
    below += share;
    out += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"{}><title>layer {}: {} of blocks at "
        "{} "
        "{}</title></rect>\n",
        px(x), px(top), px(width), px(height), hex(bits_color(b)), cut, layer, percent(share), b,
        b == 1 ? "bit" : "bits");
  }
  return out;
}

}  // namespace

std::string share_chart(const std::string& title, const std::vector<std::vector<double>>& shares) {
  std::string out = svg_begin(kWidth, kHeight, title, 0);
  out += svg_text(12, 20, "bq-ink bq-h", "start", title);
  out += svg_text(12, 37, "bq-mut", "start", "share of blocks");
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const double y = kPlotBottom - quarter / 4.0 * (kPlotBottom - kPlotTop);
    out += fmt::format("<line class=\"{0}\" x1=\"{1}\" x2=\"{2}\" y1=\"{3}\" y2=\"{3}\"/>\n",
                       quarter ? "bq-grid" : "bq-axis", px(kPlotLeft), px(kPlotRight), px(y));
    out += svg_text(kPlotLeft - 7, y + 4, "bq-mut", "end", fmt::format("{} %", 25 * quarter));
  }
  const int n = int(shares.size());
  const double slot = (kPlotRight - kPlotLeft) / std::max(1, n);
  const double width = n > kMaxColumns ? slot : std::min(0.8 * slot, 44.0);
  std::vector<double> layers;
  for (int l = 0; l < n; ++l) {
    check(shares[l].size() == 8, "shares of bit widths 1..8 wanted");
    layers.push_back(l);
    out += column(l, shares[l], kPlotLeft + (l + 0.5) * slot - width / 2, width,
                  n > kMaxColumns ? "" : " class=\"bq-cut\"");
  }
  if (n == 0)
    out +=
        svg_text((kPlotLeft + kPlotRight) / 2, (kPlotTop + kPlotBottom) / 2, "bq-mut", "middle", "no data");
  for (double t : make_axis(layers, false, false, 12).ticks)
    if (n > 0)
      out += svg_text(kPlotLeft + (t + 0.5) * slot, kPlotBottom + 17, "bq-mut", "middle", tick_text(t));
  out += svg_text((kPlotLeft + kPlotRight) / 2, kPlotBottom + 34, "bq-mut", "middle", "layer");

  out += svg_text(12, 266, "bq-ink", "start", "bits");
  for (int b = 1; b <= 8; ++b) {
    const double x = 44 + 41 * (b - 1);
    out += fmt::format("<rect x=\"{}\" y=\"256\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{}\"/>\n", px(x),
                       hex(bits_color(b)));
    out += svg_text(x + 19, 266, "bq-ink", "start", std::to_string(b));
  }
  return out + "</svg>\n";
}

}  // namespace blockgtq
