#include "cache/cuda_arrays.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"
#include "cache/mean_rule.h"

namespace blockgtq {

void append_rows(std::vector<uint16_t>& out, int columns, const Entry& entry) {
  for (int k = 0; k < columns; k += 16)
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i)
        out.push_back(to_half(entry(lane / 4 + i / 2 % 2 * 8, k + lane % 4 * 2 + i / 4 * 8 + i % 2)));
}

void append_columns(std::vector<uint16_t>& out, int columns, const Entry& entry) {
  for (int k = 0; k < columns; k += 16)
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i)
        out.push_back(to_half(entry(lane / 4 + i / 4 * 8, k + lane % 4 * 2 + i / 2 % 2 * 8 + i % 2)));
}

namespace {

void add(CentredSides::Rules& to, const MeanRule& rule) {
  to.weights.insert(to.weights.end(), rule.weights.begin(), rule.weights.end());
  to.limits.push_back(rule.limit);
}

cuda::MeanRules keep(const CentredSides::Rules& rules, DeviceArrays& arrays, const cuda::Stream& stream) {
  return {arrays.keep(rules.weights, stream), arrays.keep(rules.limits, stream)};
}

}  // namespace

CentredSides::CentredSides(const PackedSpec& spec, int64_t longest) {
  const BlockLayout& layout = spec.layout;
  const int dim = layout.head_dim;
  keys = !spec.key[0].mean.empty();
  values = !spec.value[0].mean.empty();
  for (int h = 0; h < spec.n_kv_heads(); ++h) {
    check(spec.key[h].mean.empty() != keys && spec.value[h].mean.empty() != values,
          "CentredSides: some heads centred, some not");
    value_mean.insert(value_mean.end(), spec.value[h].mean.begin(), spec.value[h].mean.end());
    if (values) add(value_rules, value_mean_rule(spec.value[h]));
    if (!keys) continue;
    add(key_rules, key_mean_rule(spec.key[h], layout));
    std::vector<std::vector<float>> rows;  // (64, D)
    for (int j = 0; j < kPagePositions; ++j) {
      const std::vector<double> row = key_mean(spec, h, j);
      rows.emplace_back(row.begin(), row.end());
      key_rows.insert(key_rows.end(), rows.back().begin(), rows.back().end());
    }
    for (int i = 0; i < kPagePositions; i += 16)
      append_rows(key_fragments, dim, [&](int row, int column) {
        const int k = column % 16;
        return rows[i + row][layout.coords(column / 16 * 8 + k % 8 / 2 * 2 + k / 8)[k % 2]];
      });
  }
  if (!keys) return;
  for (int64_t t = 0; t < std::max<int64_t>(longest, 1); t += kPagePositions)
    for (int b = 0; b < layout.n_blocks(); ++b) {
      const double angle = b < layout.n_rotary() ? double(t) * spec.inv_freq[b] : 0;
      angles.push_back(float(std::cos(angle)));
      angles.push_back(float(std::sin(angle)));
    }
  coordinates.resize(dim);
  for (int b = 0; b < layout.n_blocks(); ++b) {
    const auto [x, y] = layout.coords(b);
    coords.push_back(int16_t(x));
    coords.push_back(int16_t(y));
    coordinates[x] = {int16_t(b), int16_t(y), -1};
    coordinates[y] = {int16_t(b), int16_t(x), 1};
  }
}

void keep_means(const CentredSides& centred, cuda::PackedLayer& layer, DeviceArrays& arrays,
                const cuda::Stream& stream) {
  if (centred.values) {
    layer.value_mean = arrays.keep(centred.value_mean, stream);
    layer.value_rules = keep(centred.value_rules, arrays, stream);
  }
  if (!centred.keys) return;
  layer.key_rules = keep(centred.key_rules, arrays, stream);
  layer.key_mean = arrays.keep(centred.key_fragments, stream);
  layer.page_angles = arrays.keep(centred.angles, stream);
  layer.block_coords = arrays.keep(centred.coords, stream);
  layer.key_rows = arrays.keep(centred.key_rows, stream);
  layer.coordinates = arrays.keep(centred.coordinates, stream);
}

void keep_centres(const PackedSpec& spec, cuda::PackedLayer& layer, DeviceArrays& arrays,
                  const cuda::Stream& stream) {
  const int n = spec.n_centres(), dim = spec.layout.head_dim;
  if (n == 0) return;
  if (n > cuda::kMostCentresOnDevice)
    throw Error(Exit::input,
                fmt::format("values with {} centres: a GPU serves up to {}", n, cuda::kMostCentresOnDevice),
                "--device cpu, or a map of calibrate --centres 64");
  std::vector<float> rows, columns, limits;
  std::vector<uint16_t> padded;
  for (const CentreRule& rule : centre_rules(spec)) {
    rows.insert(rows.end(), rule.centres.begin(), rule.centres.end());
    limits.insert(limits.end(), rule.limits.begin(), rule.limits.end());
    for (int d = 0; d < dim; ++d)
      for (int i = 0; i < n; ++i) columns.push_back(rule.centres[size_t(i) * size_t(dim) + size_t(d)]);
    for (int i = 0; i < cuda::centre_rows(n); ++i)
      for (int d = 0; d < dim; ++d)
        padded.push_back(to_half(i < n ? rule.centres[size_t(i) * size_t(dim) + size_t(d)] : 0.0f));
  }
  layer.centres = {n, arrays.keep(rows, stream), arrays.keep(columns, stream), arrays.keep(limits, stream),
                   arrays.keep(padded, stream)};
}

}  // namespace blockgtq
