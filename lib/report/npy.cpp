#include "report/npy.h"

#include <fmt/format.h>

#include "base/error.h"

namespace blockgtq {
namespace {

/// Magic, version, length of the header, the header: padded so that data begin at a multiple of 64.
std::string npy_header(const std::string& descr, const std::vector<size_t>& shape) {
  std::string extents = fmt::format("{}", fmt::join(shape, ", "));
  if (shape.size() == 1) extents += ",";
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, extents);
  constexpr size_t kPrefix = 10;
  header.append(63 - (kPrefix + header.size()) % 64, ' ').push_back('\n');
  std::string out("\x93NUMPY\x01\x00", 8);
  out += char(header.size() & 0xff);
  out += char(header.size() >> 8);
  return out + header;
}

}  // namespace

std::string npy_array(const std::string& descr, const std::vector<size_t>& shape, const std::string& data) {
  return npy_header(descr, shape) + data;
}

std::string npy_data(const std::string& bytes, const std::string& descr, const std::vector<size_t>& shape,
                     const std::string& file) {
  const std::string header = npy_header(descr, shape);
  size_t size = descr.empty() ? 0 : size_t(descr.back() - '0');
  for (const size_t n : shape) size *= n;
  if (!bytes.starts_with(header) || bytes.size() != header.size() + size)
    fail_input("{}: not an array of type {} and shape ({})", file, descr, fmt::join(shape, ", "));
  return bytes.substr(header.size());
}

}  // namespace blockgtq
