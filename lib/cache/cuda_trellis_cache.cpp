#include "cache/cuda_trellis_cache.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"

namespace blockgtq {
namespace {

/// The words of a trellis table in shared memory, see cuda::LookUp.
std::vector<uint32_t> table_words(const TrellisBytes& centroids, int bits, int other) {
  const auto byte = [&](uint32_t window) { return uint32_t(uint8_t(centroids.bytes[window & 255])); };
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < uint32_t(cuda::table_rows(bits, other)); ++i)
    if (cuda::look_up_of(bits, other) == cuda::LookUp::single)
      out.push_back(byte(i) * 0x01010101u);
    else if (bits == 2)
      out.push_back(byte(i) | byte(i >> 2) << 8);
    else
      out.push_back(byte(2 * i) | byte(2 * i + 1) << 8 | byte(i >> 2) << 16);
  return out;
}

/// The table of keys, or of values, which all heads share.
TrellisBytes common_bytes(const std::vector<LinearCode>& codes) {
  const TrellisBytes first(codes[0].groups[0]);
  for (const LinearCode& code : codes)
    check(TrellisBytes(code.groups[0]).bytes == first.bytes, "CudaTrellisCache: heads of different tables");
  return first;
}

/// Uploads tables (H, kTrellisStates) and matrices (H, D, D), the latter with columns as rows.
cuda::TrellisEncodeSide encode_side(const std::vector<LinearCode>& codes, DeviceArrays& arrays,
                                    const cuda::Stream& stream) {
  std::vector<float> centroids, forward;
  for (const LinearCode& code : codes) {
    const TrellisTable table = TrellisBytes(code.groups[0]).table();
    centroids.insert(centroids.end(), table.begin(), table.end());
    for (int d = 0; d < code.dim; ++d)
      for (int j = 0; j < code.dim; ++j) forward.push_back(code.forward[size_t(j) * code.dim + d]);
  }
  return {arrays.keep(forward, stream), arrays.keep(centroids, stream)};
}

/// The largest centroid times the longest row of backward^T.
double longest_row(const LinearCode& code) {
  double longest = 0;
  for (int j = 0; j < code.dim; ++j) {
    double square = 0;
    for (int d = 0; d < code.dim; ++d) square += std::pow(code.backward[size_t(d) * code.dim + j], 2);
    longest = std::max(longest, square);
  }
  return std::sqrt(longest) * 127 * TrellisBytes(code.groups[0]).unit;
}

}  // namespace

CudaTrellisCache::CudaTrellisCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream) {
  require_trellis_pages(spec);
  const int dim = spec.layout.head_dim, n_heads = spec.n_kv_heads();
  const int key_bits = spec.key[0].groups[0].bits, value_bits = spec.value[0].groups[0].bits;
  const int block_bytes = trellis_block_bytes(dim, key_bits, value_bits, spec.n_centres() > 0);
  cuda::PackedLayer& layer = layer_.packed;
  layer_.key_bits = key_bits;
  layer_.value_bits = value_bits;
  layer.dim = dim;
  layer.n_heads = spec.n_heads;
  layer.n_kv_heads = n_heads;
  layer.key_slabs = layer.value_slabs = layer.key_halves = dim / 16;
  layer.page_bytes = spec.page_pitch ? spec.page_pitch : int64_t(n_heads) * block_bytes;
  layer.block_bytes = block_bytes;
  layer.table_bytes = sizeof(cuda::PackedTable);

  std::vector<cuda::PackedTable> tables(n_heads);
  std::vector<uint16_t> query_map, value_back, key_expand, value_expand;
  for (int h = 0; h < n_heads; ++h) {
    const LinearCode &key = spec.key[h], &value = spec.value[h];
    const double scale = longest_row(key), largest = 127 * TrellisBytes(key.groups[0]).unit,
                 largest_value = 127 * TrellisBytes(value.groups[0]).unit;
    tables[h].block_offset = h * block_bytes;
    tables[h].block_bytes = block_bytes;
    tables[h].key_slabs = tables[h].value_slabs = dim / 16;
    tables[h].key_norms = trellis_code_bytes(dim, key_bits);
    tables[h].value_norms = trellis_side_bytes(dim, key_bits) + trellis_code_bytes(dim, value_bits);
    if (spec.n_centres() > 0) tables[h].value_centres = block_bytes - kPagePositions;
    tables[h].query_scale = float(scale);
    for (int slab = 0; slab < dim / 16; ++slab) {
      append_rows(query_map, dim, [&](int row, int d) {
        const int j = cuda::trellis_key_coordinate(dim, key_bits, slab, row);
        return float(key.backward[size_t(d) * dim + j] * largest / scale);
      });
      for (int row = 0; row < kSlab; ++row)
        for (int d = 0; d < dim; ++d)
          value_back.push_back(to_half(float(
              value.backward[size_t(d) * dim + cuda::trellis_value_coordinate(dim, value_bits, slab, row)] *
              largest_value)));
      // For prefill: slabs hold coordinates in order, and a byte centroid counts 1 / 128, not 1 / 127.
      append_columns(key_expand, dim, [&](int row, int j) {
        return float(key.backward[size_t(16 * slab + row) * dim + j] * largest / scale * (128.0 / 127));
      });
      append_rows(value_expand, dim, [&](int row, int j) {
        return float(value.backward[size_t(16 * slab + row) * dim + j] * largest_value * (128.0 / 127));
      });
    }
  }
  layer.tables = reinterpret_cast<const uint8_t*>(arrays_.keep(tables, stream));
  layer.query_map = arrays_.keep(query_map, stream);
  layer.value_back = arrays_.keep(value_back, stream);
  layer.key_expand = arrays_.keep(key_expand, stream);
  layer.value_expand = arrays_.keep(value_expand, stream);

  const TrellisBytes key_bytes = common_bytes(spec.key), value_bytes = common_bytes(spec.value);
  layer_.key_centroids = layer_.value_centroids =
      arrays_.keep(table_words(key_bytes, key_bits, value_bits), stream);
  if (key_bits != value_bits)
    layer_.value_centroids = arrays_.keep(table_words(value_bytes, value_bits, key_bits), stream);
  else
    check(key_bytes.bytes == value_bytes.bytes, "CudaTrellisCache: two tables of the same bits");
  std::vector<int8_t> bytes;
  for (const TrellisBytes* side : {&key_bytes, &value_bytes})
    bytes.insert(bytes.end(), side->bytes.begin(), side->bytes.end());
  layer_.bytes = arrays_.keep(bytes, stream);
  encoder_.key = encode_side(spec.key, arrays_, stream);
  encoder_.value = encode_side(spec.value, arrays_, stream);
  keep_means(CentredSides(spec, longest), layer, arrays_, stream);
  keep_centres(spec, layer, arrays_, stream);
  encoder_.value_mean = layer.value_mean;
  encoder_.key_mean = layer.key_rows;
  encoder_.coordinates = layer.coordinates;
}

void CudaTrellisCache::encode(cuda::EncodeTokens job, const cuda::Stream& stream) const {
  cuda::encode_trellis(layer_, encoder_, job, stream);
}

void CudaTrellisCache::append(cuda::AppendToken token, const cuda::Stream& stream) const {
  check(token.k && token.v, "CudaTrellisCache: room for a token");
  cuda::EncodeTokens job;
  job.cache = token.packed;
  job.pages = token.packed_pages;
  job.starts = token.positions;
  job.batch = token.batch;
  job.tokens = 1;
  job.k = token.k;
  job.v = token.v;
  token.packed_pages = nullptr;
  cuda::append_token(token, stream);
  encode(job, stream);
}

int64_t CudaTrellisCache::scratch_bytes(cuda::DecodeAttention step) const {
  return cuda::trellis_scratch_bytes(layer_, step);
}

void CudaTrellisCache::attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const {
  cuda::trellis_attention(layer_, step, scratch, stream);
}

void CudaTrellisCache::describe(cuda::PrefillAttention& chunk) const {
  chunk.layer = &layer_.packed;
  chunk.trellis = &layer_;
}

}  // namespace blockgtq
