#pragma once
#include <png.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "report/image.h"

struct Decoded {
  int width = 0, height = 0;
  std::vector<blockgtq::Rgb> pixels;  // (height, width)
};

/// What libpng reads from an 8-bit RGB PNG.
inline Decoded decode_png(const std::string& bytes) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()))
    throw std::runtime_error(image.message);
  image.format = PNG_FORMAT_RGB;
  Decoded out{int(image.width), int(image.height),
              std::vector<blockgtq::Rgb>(size_t(image.width) * image.height)};
  if (!png_image_finish_read(&image, nullptr, out.pixels.data(), 0, nullptr))
    throw std::runtime_error(image.message);
  return out;
}
