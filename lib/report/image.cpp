#include "report/image.h"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <new>

#include "base/error.h"

namespace blockgtq {

// Steps chosen by hand. They only grow lighter, so that neighbours differ also in grey and with a colour
// vision deficiency.
Rgb bits_color(int bits) {
  static constexpr Rgb kRamp[8] = {{0x38, 0x34, 0x8f}, {0x3c, 0x62, 0xbe}, {0x2f, 0x90, 0xcb},
                                   {0x2a, 0xb5, 0xb6}, {0x54, 0xc7, 0x87}, {0x98, 0xd5, 0x5d},
                                   {0xd6, 0xdd, 0x4a}, {0xff, 0xe7, 0x5a}};
  check(bits >= 1 && bits <= 8, "a bit width outside 1..8 has no colour");
  return kRamp[bits - 1];
}

Rgb share_color(double share) {
  const double at = 1 + 7 * std::clamp(share, 0.0, 1.0);
  const int below = std::min(7, int(at));
  const Rgb a = bits_color(below), b = bits_color(below + 1);
  Rgb mixed;
  for (size_t i = 0; i < mixed.size(); ++i)
    mixed[i] = uint8_t(std::lround(a[i] + (at - below) * (double(b[i]) - a[i])));
  return mixed;
}

std::string hex(Rgb color) {
  return fmt::format("#{:02x}{:02x}{:02x}", color[0], color[1], color[2]);
}

std::string encode_png(int width, int height, const std::vector<Rgb>& pixels) {
  check(width > 0 && height > 0 && pixels.size() == size_t(width) * height, "an image and its size differ");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = png_uint_32(width);
  image.height = png_uint_32(height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string bytes(size, '\0');
  const int done = png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.data(), 0, nullptr);
  if (!done) throw std::bad_alloc();  // nothing else can go wrong: the size is that of the pixels
  check(size <= bytes.size(), "libpng wrote more than it announced");
  bytes.resize(size);
  return bytes;
}

}  // namespace blockgtq
