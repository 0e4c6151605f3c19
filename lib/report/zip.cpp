#include "report/zip.h"

#include <zlib.h>

#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr uint16_t kVersion = 20, kDate = 0x21;  // 1980-01-01, the first there is
constexpr size_t kLocalBytes = 30;

void put16(std::string& out, size_t value) {
  for (int i = 0; i < 2; ++i) out += char(value >> 8 * i & 0xff);
}
void put32(std::string& out, size_t value) {
  for (int i = 0; i < 4; ++i) out += char(value >> 8 * i & 0xff);
}

size_t get(const std::string& in, size_t at, int n) {
  size_t value = 0;
  for (int i = 0; i < n; ++i) value |= size_t((unsigned char)in[at + i]) << 8 * i;
  return value;
}

uint32_t checksum(const std::string& bytes) {
  return uint32_t(
      crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// Version to extract, flags, method (stored), time, date, checksum, both sizes, lengths of name and extra
/// field.
std::string common_header(const std::string& name, const std::string& bytes) {
  std::string out;
  for (const size_t value : {size_t(kVersion), size_t(0), size_t(0), size_t(0), size_t(kDate)})
    put16(out, value);
  put32(out, checksum(bytes));
  put32(out, bytes.size());
  put32(out, bytes.size());
  put16(out, name.size());
  put16(out, 0);
  return out;
}

}  // namespace

std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out, directory;
  for (const auto& [name, bytes] : entries) {
    check(bytes.size() < UINT32_MAX && name.size() < UINT16_MAX, "a ZIP entry above 4 GiB");
    const size_t offset = out.size();
    const std::string header = common_header(name, bytes);
    put32(out, kLocal);
    out += header + name + bytes;
    put32(directory, kCentral);
    put16(directory, kVersion);
    directory += header;
    for (int i = 0; i < 3; ++i) put16(directory, 0);  // comment, disk, attributes
    put32(directory, 0);
    put32(directory, offset);
    directory += name;
  }
  const size_t start = out.size();
  out += directory;
  put32(out, kEnd);
  put32(out, 0);
  put16(out, entries.size());
  put16(out, entries.size());
  put32(out, directory.size());
  put32(out, start);
  put16(out, 0);
  return out;
}

std::vector<std::pair<std::string, std::string>> unzip(const std::string& bytes, const std::string& file) {
  std::vector<std::pair<std::string, std::string>> entries;
  size_t at = 0;
  while (at + kLocalBytes <= bytes.size() && get(bytes, at, 4) == kLocal) {
    const size_t size = get(bytes, at + 18, 4), name_size = get(bytes, at + 26, 2),
                 extra = get(bytes, at + 28, 2);
    const size_t name = at + kLocalBytes, data = name + name_size + extra;
    if (get(bytes, at + 8, 2) != 0 || data > bytes.size() || size > bytes.size() - data)
      fail_input("{}: not a ZIP archive of entries that are stored whole", file);
    entries.emplace_back(bytes.substr(name, name_size), bytes.substr(data, size));
    if (checksum(entries.back().second) != get(bytes, at + 14, 4))
      fail_input("{}: {}: wrong checksum", file, entries.back().first);
    at = data + size;
  }
  if (entries.empty()) fail_input("{}: not a ZIP archive", file);
  return entries;
}

}  // namespace blockgtq
