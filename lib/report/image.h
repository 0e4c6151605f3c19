#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace blockgtq {

using Rgb = std::array<uint8_t, 3>;

/// The colours of bit widths 1..8, from few (dark blue) to many (yellow), the same in every chart, image and
/// terminal.
Rgb bits_color(int bits);
/// A share of [0, 1] on the same scale, mixed of neighbours.
Rgb share_color(double share);
std::string hex(Rgb color);  // "#rrggbb"

/// An 8-bit RGB PNG as bytes: pixels (height, width). Same pixels, same bytes (no time stamp).
std::string encode_png(int width, int height, const std::vector<Rgb>& pixels);

}  // namespace blockgtq
