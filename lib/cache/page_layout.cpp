#include "cache/page_layout.h"

#include <algorithm>

#include "base/error.h"

namespace blockgtq {
namespace {

/// The units, of `size` coordinates each: first the full slabs of every group, then what is left of all
/// groups.
CodeStream cut(std::span<const GroupWidth> groups, int size, int lanes) {
  CodeStream stream;
  stream.units_per_slab = kSlab / size;
  std::vector<CodeUnit> left;
  const auto add = [&](CodeUnit unit) {
    unit.offset = stream.bytes;
    stream.bytes += unit.bits * lanes * 4 * unit.coords / size;
    stream.units.push_back(unit);
  };
  int first = 0;
  for (int g = 0; g < int(groups.size()); ++g) {
    const auto [d, bits] = groups[g];
    check(d >= 2 && d % 2 == 0 && bits >= 1 && bits <= 8, "page layout: dimension or bits of a group");
    for (int at = 0; at < d; at += size) {
      const CodeUnit unit{0, bits, g, first + at, std::min(size, d - at)};
      if (at < d / kSlab * kSlab)
        add(unit);
      else
        left.push_back(unit);
    }
    first += d;
  }
  for (const CodeUnit& unit : left) add(unit);
  while (stream.units.size() % stream.units_per_slab != 0) stream.units.push_back({});
  return stream;
}

}  // namespace

CodeStream key_stream(std::span<const GroupWidth> groups) {
  return cut(groups, 4, 8);
}

CodeStream value_stream(std::span<const GroupWidth> groups) {
  return cut(groups, 2, 4);
}

int key_coordinate(const CodeStream& stream, int slab, int place) {
  const CodeUnit& unit = stream.units[slab * 4 + place % 8 / 2];
  const int j = place / 8 * 2 + place % 2;
  return j < unit.coords ? unit.first + j : -1;
}

int value_coordinate(const CodeStream& stream, int slab, int place) {
  const CodeUnit& unit = stream.units[slab * 8 + place % 8];
  const int j = place / 8;
  return j < unit.coords ? unit.first + j : -1;
}

BlockShape block_shape(std::span<const GroupWidth> key, bool key_one_norm, std::span<const GroupWidth> value,
                       bool value_one_norm, bool value_centres) {
  BlockShape b{key_stream(key), value_stream(value)};
  b.key_norms = key_one_norm ? 1 : int(key.size());
  b.value_norms = value_one_norm ? 1 : int(value.size());
  b.value_offset = b.key.bytes;
  b.key_norm_offset = b.value_offset + b.value.bytes;
  b.value_norm_offset = b.key_norm_offset + 2 * kPagePositions * b.key_norms;
  b.bytes = b.value_norm_offset + 2 * kPagePositions * b.value_norms;
  if (value_centres) {
    b.value_centre_offset = b.bytes;
    b.bytes += kPagePositions;
  }
  return b;
}

}  // namespace blockgtq
