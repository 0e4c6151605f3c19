#include "cache/cuda_table.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"

namespace blockgtq {
namespace {

/// Centroids of up to kByteBits bits in the order of look_up().
std::array<int8_t, 16> byte_book(const LinearCode::Group& g) {
  std::array<int8_t, 16> book{};
  for (uint32_t code = 0; code < 1u << g.bits; ++code) {
    const int byte = byte_centroid(g.centroids[centroid_index(g.bits, code)], g.centroids.back());
    book[code] = int8_t(g.bits == 4 && code < 8 && byte < 0 ? ~byte : byte);
  }
  return book;
}

/// Appends centroids in the order in which unpack.cuh looks them up.
int append_book(TableBytes& to, const LinearCode::Group& g) {
  if (g.bits > kByteBits) {
    std::vector<uint16_t> half;
    for (uint32_t code = 0; code < 1u << g.bits; ++code)
      half.push_back(to_half(g.centroids[centroid_index(g.bits, code)] / g.centroids.back()));
    return append(to, half.data(), half.size());
  }
  const auto book = byte_book(g);
  const int at = append(to, book.data(), book.size());
  append(to, book.data(), book.size());
  return at;
}

/// A bit per slab that the 8-bit MMA cannot multiply, because some of its codes are wider than kByteBits.
uint32_t wide_slabs(const CodeStream& stream) {
  uint32_t out = 0;
  for (int i = 0; i < int(stream.units.size()); ++i)
    if (stream.units[i].bits > kByteBits) out |= 1u << (i / stream.units_per_slab);
  return out;
}

/// The units of one side. Their codebooks are appended behind the tables.
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

/// Lengths of the rows of backward^T, in units of the largest centroid, and the longest row among the
/// coordinates of every norm.
struct RowLengths {
  std::vector<double> of_row;   // by coordinate of z
  std::vector<int> norm;        // index of the norm, by coordinate of z
  std::vector<double> longest;  // by norm
  RowLengths(const LinearCode& code, int n_norms) : longest(n_norms) {
    const int n = code.n_coords();
    for (size_t g = 0; g < code.groups.size(); ++g)
      for (int i = 0; i < code.groups[g].d; ++i) {
        double square = 0;
        for (int d = 0; d < code.dim; ++d)
          square += std::pow(code.backward[size_t(d) * n + of_row.size()], 2);
        norm.push_back(code.one_norm ? 0 : int(g));
        of_row.push_back(std::sqrt(square) * code.groups[g].centroids.back());
        longest[norm.back()] = std::max(longest[norm.back()], of_row.back());
      }
  }
};

/// PackedLayer::query_weights. The weight W of a coordinate of q is the longest row that has a part in it,
/// divided by the longest row of that row's norm. By Cauchy-Schwarz no row times q is then longer than W q. W
/// is at least a sixteenth, so that q in units of |W q|, and W^2 q, stay within fp16.
std::vector<uint16_t> query_weights(const LinearCode& code, const RowLengths& rows) {
  const int n = code.n_coords();
  std::vector<uint16_t> out;
  for (int i = 0; i < code.dim; ++i) {
    const int d = i / 16 * 16 + i % 4 / 2 * 8 + i % 16 / 4 * 2 + i % 2;
    double weight = 1.0 / 16;
    for (int j = 0; j < n; ++j)
      if (code.backward[size_t(d) * n + j] != 0)
        weight = std::max(weight, rows.of_row[j] / rows.longest[rows.norm[j]]);
    out.push_back(
        to_half(float(weight * weight * (1 + 1.0 / 512))));  // roundings add up to no more than that
  }
  return out;
}

/// Where each lane reads its words of up to four units.
std::vector<cuda::TailLane> tail_lanes(const CodeStream& stream, const std::vector<int>& units) {
  std::vector<cuda::TailLane> lanes;
  for (int lane = 0; lane < 32; ++lane) {
    // Where there is no unit, a lane reads the words of another lane; its queries are zero.
    const CodeUnit& u = stream.units[units[lane % 4 < int(units.size()) ? lane % 4 : 0]];
    const int at = u.offset + lane / 4 * u.bits * (u.half() ? 2 : 4);
    // 16-bit words are adjacent, from the lower or upper half of a word on; 32-bit words are taken whole.
    const uint32_t even = at % 4 == 0 ? 0x1100 : 0x3322, odd = at % 4 == 0 ? 0x3322 : 0x5544;
    lanes.push_back({uint32_t(at / 4 * 4),
                     {u.half() ? even : 0x3210u, u.half() ? odd : 0x7654u, u.half() ? even : 0x7654u}});
  }
  return lanes;
}

/// The units of a group, by index in the stream: those that fill slabs, and the others.
struct GroupUnits {
  std::vector<int> whole, rest;
  GroupUnits(const CodeStream& stream, const LinearCode& code, int g) {
    for (int i = 0; i < int(stream.units.size()); ++i)
      if (stream.units[i].bits > 0 && stream.units[i].group == g)
        (int(whole.size()) < code.groups[g].d / kSlab * 4 ? whole : rest).push_back(i);
  }
};

/// The row of the query map for a unit's first coordinate. It is in half `half` of all halves, alone in its
/// product or not, as unit `c` of the product's first or second half.
cuda::QueryRow query_row(float steps, bool twice, int half, bool alone, bool second, int c) {
  cuda::QueryRow row;
  row.steps = steps;
  row.pitch = alone ? 32 : 64;
  row.at = 256 * half + c * row.pitch / 4 + (second ? 4 : 0);
  row.twice = twice;
  return row;
}

/// Adds a group of codes of up to kByteBits. The queries of its units begin at half `halves`, which is
/// advanced to the next group's first. The lanes of its tail are appended to the table.
cuda::KeyGroup add_group(const CodeStream& stream, const GroupUnits& units, int bits, float longest_row,
                         std::vector<cuda::QueryRow>& of_unit, int& halves, TableBytes& table) {
  const bool twice = bits == 4;
  const int n_whole = int(units.whole.size()) / 4, of_pair = twice ? 1 : 2;  // slabs
  const bool single = n_whole % of_pair, both = twice || (single && !units.rest.empty());
  cuda::KeyGroup group;
  group.bits = bits;
  group.longest_row = longest_row;
  group.pairs = n_whole / of_pair;
  if (n_whole > 0) group.slabs = stream.units[units.whole[0]].offset;
  const auto put = [&](int unit, int half, bool alone, bool second, int c) {
    of_unit[unit] = query_row(cuda::kQuerySteps / longest_row, twice, halves + half, alone, second, c);
  };
  for (int i = 0; i < int(units.whole.size()); ++i) {
    const int slab = i / 4, pair = slab / of_pair;
    put(units.whole[i], 2 * pair, pair == group.pairs && !both, slab % of_pair == 1, i % 4);
  }
  halves += 2 * group.pairs;
  for (int i = 0; i < int(units.rest.size()); ++i) put(units.rest[i], 0, !both, single, i);
  if (!single && units.rest.empty()) return group;
  group.tail = both ? cuda::kWholeTail : cuda::kHalfTail;
  halves += both ? 2 : 1;
  const auto lanes = tail_lanes(
      stream, units.rest.empty() ? std::vector(units.whole.end() - 4, units.whole.end()) : units.rest);
  group.lanes = append(table, lanes.data(), lanes.size());
  return group;
}

/// Sets two copies of a group's codebook. A codebook of 4 bits is cut into two whose look-ups add up to the
/// centroid: for the codes of the other half each gives 0 or -1, the sign.
void add_books(cuda::KeyGroup& to, const LinearCode::Group& g) {
  const auto book = byte_book(g);
  std::array<int8_t, 16> sums = book;
  if (g.bits == 4)
    for (int i = 0; i < 8; ++i)
      if (book[8 + i] < 0) {
        sums[i] = int8_t(~book[i] + 1);
        sums[8 + i] = int8_t(book[8 + i] + (sums[i] < 0 ? 1 : 0));
      }
  for (int copy = 0; copy < 2; ++copy)
    std::memcpy(reinterpret_cast<uint8_t*>(to.books) + 16 * copy, sums.data(), 16);
}

/// Appends the groups of keys to the table, and sets the rows of the query map.
void append_groups(HeadTable& made, cuda::PackedTable& t, const CodeStream& stream, const LinearCode& code,
                   const RowLengths& lengths) {
  std::vector<cuda::KeyGroup> groups;
  std::vector<cuda::QueryRow> of_unit(stream.units.size());  // the row of the unit's first coordinate
  bool by_width = t.group_norms == 0;
  int widest = 0, halves = 0;
  for (int g = 0; g < int(code.groups.size()); ++g) {
    const GroupUnits units(stream, code, g);
    const int bits = code.groups[g].bits, norm = code.one_norm ? 0 : g;
    by_width = by_width && bits <= kByteBits && bits > widest;
    widest = bits;
    if (bits > kByteBits) {
      for (const auto* some : {&units.whole, &units.rest})
        for (const int i : *some) of_unit[i].wide = 4 * i;
      continue;
    }
    const float longest_row = float(lengths.longest[norm] / t.query_scale);
    cuda::KeyGroup& group =
        groups.emplace_back(add_group(stream, units, bits, longest_row, of_unit, halves, made.bytes));
    group.norms = t.key_norms + 2 * kPagePositions * norm;
    add_books(group, code.groups[g]);
  }
  if (by_width) {
    std::vector<cuda::KeyGroup> by(kByteBits);
    for (const cuda::KeyGroup& group : groups) by[group.bits - 1] = group;
    groups = by;
    for (int i = 0; i < kByteBits; ++i) t.shapes |= shape_of(by[i]) << 8 * i;
  }
  t.n_groups = int(groups.size());
  t.groups = append(made.bytes, groups.data(), groups.size());
  for (const MapRow& row : map_rows(stream, code.dim)) {
    cuda::QueryRow& to = made.query_rows.emplace_back();
    to.at = 256 * halves;
    if (row.z < 0) continue;
    const cuda::QueryRow& unit = of_unit[row.unit];
    if (unit.wide >= 0)
      to.wide = unit.wide + row.coordinate;
    else
      to = unit, to.at += row.coordinate;
  }
  made.key_halves = halves + 1;
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
  t.value_centres = block.value_centre_offset;
  const RowLengths lengths(key, block.key_norms);
  t.query_scale = float(*std::max_element(lengths.longest.begin(), lengths.longest.end()));
  t.wide_keys = wide_slabs(block.key);
  t.wide_values = wide_slabs(block.value);
  append_groups(made, t, block.key, key, lengths);
  made.query_weights = query_weights(key, lengths);
  std::memcpy(out.data(), &t, sizeof t);
  std::memcpy(out.data() + sizeof t, key_units.data(), key_units.size() * sizeof(cuda::UnitEntry));
  std::memcpy(out.data() + sizeof t + key_units.size() * sizeof(cuda::UnitEntry), value_units.data(),
              value_units.size() * sizeof(cuda::UnitEntry));
  return made;
}

}  // namespace blockgtq
