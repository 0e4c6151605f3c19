#include "cache/cuda_table.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"

namespace blockgtq {
namespace {

/// Centroids as unpack.cuh looks them up.
int append_book(TableBytes& to, const LinearCode::Group& g) {
  const float largest = g.centroids.back();
  const uint32_t stored = g.bits == 4 ? 8 : 1u << g.bits;  // 4 bits: the positive ones only
  if (g.bits > kByteBits) {
    std::vector<uint16_t> half;
    for (uint32_t code = 0; code < stored; ++code)
      half.push_back(to_half(g.centroids[centroid_index(g.bits, code)] / largest));
    return append(to, half.data(), half.size());
  }
  int8_t bytes[16] = {};
  for (uint32_t code = 0; code < stored; ++code)
    bytes[code] = bytes[code + 8] = int8_t(byte_centroid(g.centroids[centroid_index(g.bits, code)], largest));
  return append(to, bytes, 16);
}

/// Slabs that the 8-bit product cannot do: some of their codes are wider than its bytes.
uint32_t wide_slabs(const CodeStream& stream) {
  uint32_t out = 0;
  for (int i = 0; i < int(stream.units.size()); ++i)
    if (stream.units[i].bits > kByteBits) out |= 1u << (i / stream.units_per_slab);
  return out;
}

/// Units of one side, books behind the tables.
std::vector<cuda::UnitEntry> unit_entries(const CodeStream& stream, const LinearCode& code, int offset,
                                          const std::vector<int>& books) {
  std::vector<cuda::UnitEntry> out;
  for (const CodeUnit& u : stream.units) {
    cuda::UnitEntry e;
    e.offset = offset + u.offset;
    e.bits = int8_t(u.bits);
    e.half = stream.units_per_slab == 4 && u.half();
    if (u.bits > 0) e.book = books[u.group];
    e.norm = int16_t(code.one_norm ? 0 : u.group);
    e.group = int16_t(u.group);
    out.push_back(e);
  }
  return out;
}

/// The longest row of backward^T, in units of its largest centroid, among the coordinates of every norm.
std::vector<double> longest_rows(const LinearCode& code, int n_norms) {
  std::vector<double> out(n_norms);
  const int n = code.n_coords();
  int j = 0;
  for (size_t g = 0; g < code.groups.size(); ++g)
    for (const int end = j + code.groups[g].d; j < end; ++j) {
      double square = 0;
      for (int d = 0; d < code.dim; ++d) square += std::pow(code.backward[size_t(d) * n + j], 2);
      double& longest = out[code.one_norm ? 0 : g];
      longest = std::max(longest, std::sqrt(square) * code.groups[g].centroids.back());
    }
  return out;
}

/// A lane's words of units that fill no slab.
std::vector<cuda::RestLane> rest_lanes(const CodeStream& stream, const std::vector<int>& units) {
  std::vector<cuda::RestLane> lanes;
  for (int lane = 0; lane < 32; ++lane) {
    // Where there is no unit a lane reads what another one does, against queries that are zero.
    const CodeUnit& u = stream.units[units[lane % 4 < int(units.size()) ? lane % 4 : 0]];
    const int at = u.offset + lane / 4 * u.bits * (u.half() ? 2 : 4);
    // 16-bit words behind each other, from a word's lower or upper half on; else whole words as they are.
    const uint32_t even = at % 4 == 0 ? 0x1100 : 0x3322, odd = at % 4 == 0 ? 0x3322 : 0x5544;
    lanes.push_back({uint32_t(at / 4 * 4),
                     {u.half() ? even : 0x3210u, u.half() ? odd : 0x7654u, u.half() ? even : 0x7654u}});
  }
  return lanes;
}

/// Units of a group by their numbers in the stream: those that fill slabs, and those that fill none.
struct GroupUnits {
  std::vector<int> whole, rest;
  GroupUnits(const CodeStream& stream, const LinearCode& code, int g) {
    for (int i = 0; i < int(stream.units.size()); ++i)
      if (stream.units[i].bits > 0 && stream.units[i].group == g)
        (int(whole.size()) < code.groups[g].d / kSlab * 4 ? whole : rest).push_back(i);
  }
};

/// Where the queries of a unit's first coordinate go: half `half` of all of them, alone in its product or
/// not, as unit `c` of the product's first or second half.
cuda::QueryRow query_row(float steps, bool negative, int half, bool alone, bool second, int c) {
  cuda::QueryRow row;
  row.steps = steps;
  row.half = int16_t(half);
  row.pitch = alone ? 32 : 64;
  row.place = uint8_t(c * row.pitch / 4 + (second ? 4 : 0));
  row.negative = negative;
  return row;
}

/// A group of up to kByteBits, its units' queries from half `halves` on, which goes to the next group's.
cuda::KeyGroup add_group(const GroupUnits& units, int bits, float steps, std::vector<cuda::QueryRow>& of_unit,
                         int& halves) {
  const bool is_signed = bits > 3;
  const int n_whole = int(units.whole.size()) / 4;
  cuda::KeyGroup group;
  group.bits = bits;
  group.pairs = is_signed ? n_whole : n_whole / 2;
  group.single = is_signed ? 0 : n_whole % 2;
  for (int i = 0; i < int(units.whole.size()); ++i) {
    const int slab = i / 4, first = is_signed ? 2 * slab : slab / 2 * 2;
    of_unit[units.whole[i]] =
        query_row(steps, is_signed, halves + first, !is_signed && slab / 2 == group.pairs,
                  !is_signed && slab % 2 == 1, i % 4);
  }
  halves += is_signed ? 2 * n_whole : n_whole;
  for (int i = 0; i < int(units.rest.size()); ++i)
    of_unit[units.rest[i]] = query_row(steps, is_signed, halves, !is_signed, false, i);
  if (!units.rest.empty()) halves += is_signed ? 2 : 1;
  return group;
}

/// Groups of keys behind the table, and what becomes of the query map's rows. Returns the halves of products.
int append_groups(TableBytes& out, cuda::PackedTable& t, const CodeStream& stream, const LinearCode& code,
                  const std::vector<int>& books, const std::vector<double>& longest) {
  std::vector<cuda::KeyGroup> groups;
  std::vector<cuda::QueryRow> of_unit(stream.units.size());  // its first coordinate's
  bool by_width = t.group_norms == 0;
  uint32_t widths = 0;
  int halves = 0;
  for (int g = 0; g < int(code.groups.size()); ++g) {
    const GroupUnits units(stream, code, g);
    const int bits = code.groups[g].bits, norm = code.one_norm ? 0 : g;
    by_width = by_width && bits <= kByteBits && widths >> bits == 0;  // rising
    if (bits > kByteBits) {
      for (const auto* some : {&units.whole, &units.rest})
        for (const int i : *some) of_unit[i].wide = int16_t(4 * i);
      continue;
    }
    widths |= 1u << bits;
    const float longest_row = float(longest[norm] / t.query_scale);
    cuda::KeyGroup& group =
        groups.emplace_back(add_group(units, bits, cuda::kQuerySteps / longest_row, of_unit, halves));
    group.norms = t.key_norms + 2 * kPagePositions * norm;
    group.longest_row = longest_row;
    std::memcpy(group.books, &out[books[g]], sizeof group.books);
    if (!units.whole.empty()) group.slabs = stream.units[units.whole[0]].offset;
    if (units.rest.empty()) continue;
    const auto lanes = rest_lanes(stream, units.rest);
    group.rest = append(out, lanes.data(), lanes.size());
  }
  if (by_width) {
    std::vector<cuda::KeyGroup> by(kByteBits);
    for (const cuda::KeyGroup& group : groups) by[group.bits - 1] = group;
    groups = by;
    t.widths = widths;
  }
  t.n_groups = int(groups.size());
  t.groups = append(out, groups.data(), groups.size());
  std::vector<cuda::QueryRow> rows;
  for (const MapRow& row : map_rows(stream, code.dim)) {
    cuda::QueryRow& to = rows.emplace_back();
    to.half = int16_t(halves);
    if (row.z < 0) continue;
    const cuda::QueryRow& unit = of_unit[row.unit];
    if (unit.wide >= 0)
      to.wide = int16_t(unit.wide + row.coordinate);
    else
      to = unit, to.place += uint8_t(row.coordinate);
  }
  t.rows = append(out, rows.data(), rows.size());
  return halves + 1;
}

}  // namespace

std::vector<MapRow> map_rows(const CodeStream& keys, int dim) {
  std::vector<MapRow> rows;
  for (int slab = 0; slab < keys.n_slabs(); ++slab)
    for (int place = 0; place < kSlab; ++place)
      if (const int z = key_coordinate(keys, slab, place); z >= 0)
        rows.push_back({4 * slab + place % 8 / 2, place / 8 * 2 + place % 2, z});
  check(int(rows.size()) <= dim, "CudaCache: coordinates of a key");
  rows.resize(dim);
  return rows;
}

HeadTable make_head_table(const PackedSpec& spec, const PageShape& page, int head) {
  const BlockShape& block = page.blocks[head];
  const LinearCode &key = spec.key[head], &value = spec.value[head];
  HeadTable made;
  TableBytes& out = made.bytes;
  out.resize(sizeof(cuda::PackedTable) +
             (block.key.units.size() + block.value.units.size()) * sizeof(cuda::UnitEntry));
  std::vector<int> key_books, value_books;
  for (const auto& g : key.groups) key_books.push_back(append_book(out, g));
  for (const auto& g : value.groups) value_books.push_back(append_book(out, g));
  const auto key_units = unit_entries(block.key, key, 0, key_books);
  const auto value_units = unit_entries(block.value, value, block.value_offset, value_books);
  cuda::PackedTable t;
  t.key_slabs = block.key.n_slabs();
  t.value_slabs = block.value.n_slabs();
  t.group_norms = block.key_norms > 1;
  t.block_offset = page.offsets[head];
  t.block_bytes = block.bytes;
  t.key_norms = block.key_norm_offset;
  t.value_norms = block.value_norm_offset;
  const std::vector<double> longest = longest_rows(key, block.key_norms);
  const double scale = *std::max_element(longest.begin(), longest.end());
  t.query_scale = float(scale);
  t.wide_keys = wide_slabs(block.key);
  t.wide_values = wide_slabs(block.value);
  made.key_halves = append_groups(out, t, block.key, key, key_books, longest);
  std::memcpy(out.data(), &t, sizeof t);
  std::memcpy(out.data() + sizeof t, key_units.data(), key_units.size() * sizeof(cuda::UnitEntry));
  std::memcpy(out.data() + sizeof t + key_units.size() * sizeof(cuda::UnitEntry), value_units.data(),
              value_units.size() * sizeof(cuda::UnitEntry));
  return made;
}

}  // namespace blockgtq
