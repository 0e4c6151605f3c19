#include "cache/cuda_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/float16.h"
#include "cache/cuda_arrays.h"
#include "cache/cuda_table.h"

namespace blockgtq {
namespace {

/// The group that a coordinate of z belongs to.
const LinearCode::Group& group_of(const LinearCode& code, int coordinate) {
  size_t g = 0;
  for (int end = code.groups[0].d; coordinate >= end; end += code.groups[g].d) ++g;
  return code.groups[g];
}

/// Appends the diagonals of F^T F, norm by norm, for depths 0 .. 16 steps, as fractions of the largest, which
/// goes to `scale`. Returns false where F^T F is not diagonal.
bool add_weights(const LinearCode& code, int n_norms, int depth, std::vector<uint16_t>& out,
                 float* scale = nullptr) {
  bool diagonal = true;
  const int dim = code.dim;
  for (int norm = 0, first = 0; norm < n_norms; ++norm) {
    int n = 0;
    if (code.one_norm)
      n = norm == 0 ? code.n_coords() : 0;
    else if (norm < int(code.groups.size()))
      n = code.groups[norm].d;
    std::vector<double> square(size_t(dim) * dim);
    for (int j = first; j < first + n; ++j)
      for (int d = 0; d < dim; ++d)
        for (int e = 0; e <= d; ++e)
          square[size_t(d) * dim + e] +=
              double(code.forward[size_t(j) * dim + d]) * code.forward[size_t(j) * dim + e];
    first += n;
    double largest = 0;
    for (int d = 0; d < dim; ++d) largest = std::max(largest, square[size_t(d) * dim + d]);
    if (scale) scale[norm] = float(largest);
    for (int d = 0; d < depth; ++d)
      out.push_back(to_half(d < dim && largest > 0 ? float(square[size_t(d) * dim + d] / largest) : 0.0f));
    for (int d = 0; d < dim; ++d)
      for (int e = 0; e < d; ++e)
        diagonal = diagonal && std::abs(square[size_t(d) * dim + e]) <= 1e-5 * largest;
  }
  check(diagonal || n_norms == 1 || code.one_norm, "CudaCache: norms of groups that are not rotations");
  return diagonal;
}

cuda::EncodeSide encode_side(const LinearCode& code, const CodeStream& stream, TableBytes& table) {
  cuda::EncodeSide side;
  check(code.groups.size() <= size_t(cuda::kMaxEncodeGroups), "CudaCache: number of groups");
  side.n_norms = code.one_norm ? 1 : int(code.groups.size());
  for (int slab = 0; slab < stream.n_slabs(); ++slab) {
    const CodeUnit* u = &stream.units[slab * stream.units_per_slab];
    const bool full = std::all_of(u, u + stream.units_per_slab, [&](const CodeUnit& other) {
      return other.bits > 0 && other.group == u->group && other.coords == u->coords;
    });
    cuda::SlabSpan* last = side.n_runs > 0 ? &side.runs[side.n_runs - 1] : nullptr;
    if (!full || u->coords * stream.units_per_slab != kSlab)
      side.mixed |= 1u << slab;
    else if (last && last->first + last->count == slab &&
             stream.units[last->first * stream.units_per_slab].group == u->group)
      ++last->count;
    else
      side.runs[side.n_runs++] = {int16_t(slab), 1};
  }
  std::vector<uint16_t> weights;
  side.diagonal = add_weights(code, side.n_norms, code.dim, weights, side.weight_scale);
  side.weighed = !std::all_of(weights.begin(), weights.end(), [](uint16_t w) { return w == to_half(1); });
  for (size_t g = 0; g < code.groups.size(); ++g) {
    const std::vector<float>& c = code.groups[g].centroids;
    std::vector<float> thresholds;
    for (size_t i = c.size() / 2; i + 1 < c.size(); ++i) thresholds.push_back(0.5f * (c[i] + c[i + 1]));
    side.groups[g] = {append(table, thresholds.data(), thresholds.size()), c.back()};
  }
  return side;
}

TableBytes encode_table(const PackedSpec& spec, const BlockShape& block, int head) {
  TableBytes out(2 * sizeof(cuda::EncodeSide));
  const cuda::EncodeSide sides[2] = {encode_side(spec.key[head], block.key, out),
                                     encode_side(spec.value[head], block.value, out)};
  std::memcpy(out.data(), sides, sizeof sides);
  return out;
}

/// The tables of all heads in one array, each padded to the longest.
TableBytes side_by_side(const std::vector<TableBytes>& tables, int& bytes) {
  size_t longest = 0;
  for (const TableBytes& t : tables) longest = std::max(longest, t.size());
  TableBytes all(longest * tables.size());
  for (size_t h = 0; h < tables.size(); ++h)
    std::copy(tables[h].begin(), tables[h].end(), all.begin() + h * longest);
  bytes = int(longest);
  return all;
}

}  // namespace

CudaCache::CudaCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream) {
  const int dim = spec.layout.head_dim, n_heads = spec.n_kv_heads();
  const PageShape page = page_shape(spec);
  layer_.dim = dim;
  layer_.n_heads = spec.n_heads;
  layer_.n_kv_heads = n_heads;
  layer_.page_bytes = spec.page_pitch ? spec.page_pitch : page.bytes;
  const auto uniform = [&](const std::vector<LinearCode>& codes) {
    const auto& first = codes[0].groups[0];
    for (const LinearCode& c : codes)
      if (c.groups.size() != 1 || c.groups[0].d != dim || c.groups[0].bits != first.bits) return 0;
    return first.bits;
  };
  layer_.uniform_key = uniform(spec.key);
  layer_.uniform_value = uniform(spec.value);
  for (const BlockShape& b : page.blocks) {
    layer_.key_slabs = std::max(layer_.key_slabs, b.key.n_slabs());
    layer_.value_slabs = std::max(layer_.value_slabs, b.value.n_slabs());
    layer_.block_bytes = std::max(layer_.block_bytes, b.bytes);
    encoder_.n_norms = std::max({encoder_.n_norms, b.key_norms, b.value_norms});
    layer_.side_bytes = std::max({layer_.side_bytes, b.key.bytes, b.value.bytes});
    for (const CodeStream* stream : {&b.key, &b.value})
      for (const CodeUnit& u : stream->units) encoder_.wide |= u.bits > kByteBits;
  }
  std::vector<HeadTable> heads;
  std::vector<TableBytes> tables, encode_tables;
  for (int h = 0; h < n_heads; ++h) {
    heads.push_back(make_head_table(spec, page, h));
    tables.push_back(heads[h].bytes);
    layer_.key_halves = std::max(layer_.key_halves, heads[h].key_halves);
    encode_tables.push_back(encode_table(spec, page.blocks[h], h));
  }
  layer_.by_width = true;
  for (const HeadTable& head : heads) {
    const cuda::PackedTable& t = head.table();
    layer_.wide_keys |= t.wide_keys != 0;
    layer_.by_width &= t.shapes != 0;
  }
  layer_.tables = arrays_.keep(side_by_side(tables, layer_.table_bytes), stream);
  encoder_.tables = arrays_.keep(side_by_side(encode_tables, encoder_.table_bytes), stream);

  std::vector<cuda::QueryRow> query_rows;
  std::vector<uint16_t> query_weights, query_map, value_back, key_expand, value_expand, key_forward,
      value_forward;
  std::vector<uint16_t> key_weights, value_weights;
  const int depth = (dim + 31) / 32 * 32;
  // As in load_rows(): a lane's elements of two steps are adjacent.
  const auto coordinate = [](int column) {
    const int step = column / 16, k = column % 16;
    return 32 * (step / 2) + 8 * (k % 8 / 2) + 4 * (step % 2) + 2 * (k / 8) + k % 2;
  };
  const CentredSides centred(spec, longest);
  for (int h = 0; h < n_heads; ++h) {
    const LinearCode &key = spec.key[h], &value = spec.value[h];
    const int n_key = key.n_coords(), n_value = value.n_coords();
    const float scale = heads[h].table().query_scale;
    query_rows.insert(query_rows.end(), heads[h].query_rows.begin(), heads[h].query_rows.end());
    query_weights.insert(query_weights.end(), heads[h].query_weights.begin(), heads[h].query_weights.end());
    const auto back = [&](int z, int d) {
      return z < 0 ? 0.0f : key.backward[size_t(d) * n_key + z] * group_of(key, z).centroids.back() / scale;
    };
    const std::vector<MapRow> in_order = map_rows(page.blocks[h].key, dim);
    for (int first = 0; first < dim; first += 16)
      append_rows(query_map, dim, [&](int row, int d) { return back(in_order[first + row].z, d); });
    for (int slab = 0; slab < layer_.key_slabs; ++slab) {
      const auto place = [&](int p) {
        return slab < page.blocks[h].key.n_slabs() ? key_coordinate(page.blocks[h].key, slab, p) : -1;
      };
      append_columns(key_forward, depth, [&](int row, int column) {
        const int d = coordinate(column);
        return place(row) < 0 || d >= dim ? 0.0f : key.forward[size_t(place(row)) * dim + d];
      });
    }
    add_weights(key, encoder_.n_norms, depth, key_weights);
    add_weights(value, 1, depth, value_weights);
    for (int slab = 0; slab < layer_.value_slabs; ++slab) {
      const auto place = [&](int p) {
        return slab < page.blocks[h].value.n_slabs() ? value_coordinate(page.blocks[h].value, slab, p) : -1;
      };
      for (int row = 0; row < kSlab; ++row)
        for (int d = 0; d < dim; ++d)
          value_back.push_back(to_half(place(row) < 0 ? 0.0f
                                                      : value.backward[size_t(d) * n_value + place(row)] *
                                                            group_of(value, place(row)).centroids.back()));
      append_rows(value_forward, depth, [&](int row, int column) {
        const int d = coordinate(column);
        return place(row) < 0 || d >= dim ? 0.0f : value.forward[size_t(place(row)) * dim + d];
      });
    }
    // The unit of an entry in packed_tiles.cuh: a byte centroid counts 1 / 128, not 1 / 127.
    const auto unit = [](const LinearCode& code, int z) {
      return group_of(code, z).bits <= kByteBits ? 128.0f / 127 : 1.0f;
    };
    for (int first = 0; first < dim; first += 16) {
      append_columns(key_expand, 16 * layer_.key_slabs, [&](int row, int column) {
        const CodeStream& stream = page.blocks[h].key;
        const int z = column / 16 < stream.n_slabs() ? key_coordinate(stream, column / 16, column % 16) : -1;
        return z < 0 ? 0.0f : back(z, first + row) * unit(key, z);
      });
      append_rows(value_expand, 16 * layer_.value_slabs, [&](int row, int column) {
        const CodeStream& stream = page.blocks[h].value;
        const int z =
            column / 16 < stream.n_slabs() ? value_coordinate(stream, column / 16, column % 16) : -1;
        return z < 0 ? 0.0f
                     : value.backward[size_t(first + row) * n_value + z] *
                           group_of(value, z).centroids.back() * unit(value, z);
      });
    }
  }
  layer_.query_map = arrays_.keep(query_map, stream);
  layer_.query_rows = arrays_.keep(query_rows, stream);
  layer_.query_weights = arrays_.keep(query_weights, stream);
  layer_.value_back = arrays_.keep(value_back, stream);
  layer_.key_expand = arrays_.keep(key_expand, stream);
  layer_.value_expand = arrays_.keep(value_expand, stream);
  encoder_.key_forward = arrays_.keep(key_forward, stream);
  encoder_.value_forward = arrays_.keep(value_forward, stream);
  encoder_.key_weights = arrays_.keep(key_weights, stream);
  encoder_.value_weights = arrays_.keep(value_weights, stream);
  keep_means(centred, layer_, arrays_, stream);
  keep_centres(spec, layer_, arrays_, stream);
  encoder_.value_mean = layer_.value_mean;
  encoder_.key_mean = layer_.key_rows;
  encoder_.coordinates = layer_.coordinates;
  make_appender(spec, page, stream);
}

void CudaCache::make_appender(const PackedSpec& spec, const PageShape& page, const cuda::Stream& stream) {
  const int dim = layer_.dim;
  const auto side_of = [&](const std::vector<LinearCode>& codes, bool keys) {
    cuda::AppendLayer::Side side;
    side.places = kSlab * (keys ? layer_.key_slabs : layer_.value_slabs);
    std::vector<uint16_t> forward;
    std::vector<cuda::AppendGroup> groups(codes.size() * cuda::kMaxEncodeGroups);
    std::vector<float> means;
    for (size_t h = 0; h < codes.size(); ++h) {
      const LinearCode& code = codes[h];
      const CodeStream& units = keys ? page.blocks[h].key : page.blocks[h].value;
      side.n_norms = std::max(side.n_norms, keys ? page.blocks[h].key_norms : page.blocks[h].value_norms);
      std::vector<int> coordinates(size_t(side.places), -1);
      for (int place = 0; place < kSlab * units.n_slabs(); ++place)
        coordinates[size_t(place)] = keys ? key_coordinate(units, place / kSlab, place % kSlab)
                                          : value_coordinate(units, place / kSlab, place % kSlab);
      for (int d = 0; d < dim; ++d)
        for (const int j : coordinates)
          forward.push_back(j < 0 ? uint16_t(0) : to_half(code.forward[size_t(j) * dim + d]));
      for (size_t g = 0; g < code.groups.size(); ++g) {
        cuda::AppendGroup& group = groups[h * cuda::kMaxEncodeGroups + g];
        const std::vector<double> levels = cache_centroids(code.groups[g]);
        const std::vector<float> between = code.groups[g].boundaries();
        const size_t half = levels.size() / 2;
        for (size_t i = 0; i < half; ++i) group.levels[i] = float(levels[half + i]);
        std::copy(between.begin() + std::ptrdiff_t(half), between.end(), group.thresholds);
      }
      means.insert(means.end(), code.mean.begin(), code.mean.end());
    }
    side.forward = arrays_.keep(forward, stream);
    side.groups = arrays_.keep(groups, stream);
    if (!means.empty()) side.mean = arrays_.keep(means, stream);
    return side;
  };
  appender_.key = side_of(spec.key, true);
  appender_.value = side_of(spec.value, false);
}

void CudaCache::encode(cuda::EncodeTokens job, const cuda::Stream& stream) const {
  job.layer = &layer_;
  job.encoder = &encoder_;
  cuda::encode_tokens(job, stream);
}

void CudaCache::append(cuda::AppendToken token, const cuda::Stream& stream) const {
  token.layer = &layer_;
  token.append = &appender_;
  cuda::append_token(token, stream);
}

int64_t CudaCache::scratch_bytes(cuda::DecodeAttention step) const {
  step.layer = &layer_;
  return cuda::decode_scratch_bytes(step);
}

void CudaCache::attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const {
  step.layer = &layer_;
  cuda::decode_attention(step, scratch, stream);
}

void CudaCache::describe(cuda::PrefillAttention& chunk) const {
  chunk.layer = &layer_;
}

}  // namespace blockgtq
