// Packs quantizers for the device: one CodeTable per quantizer, which says where things lie, and one
// array of floats.
//
//   per distinct rotation   [R (stride, stride)][R^T (stride, stride)]
//   per distinct codebook   [centroids][boundaries]
//
// Every part starts at a multiple of 4 floats. A head of D = 128 in three groups takes about 50 KB. Its
// rotations are shared by all layers and heads of the same size and seed.
#include <map>

#include "kernels/codes/code_tables.cuh"
#include "kernels/device/check.cuh"

namespace blockgtq::cuda {
namespace {

int padded(int d) {
  return (d + 3) / 4 * 4;
}

class Numbers {
 public:
  /// Adds R and R^T of a (d, d) matrix. Returns the offset of R. R^T follows after stride * stride floats.
  int64_t add_rotation(std::span<const float> r, int d) {
    const auto [found, fresh] = places_.try_emplace(r.data(), int64_t(all.size()));
    if (!fresh) return found->second;
    const int64_t stride = padded(d), size = stride * stride;
    all.resize(all.size() + 2 * size, 0.0f);
    float* const to = all.data() + found->second;
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j) {
        to[i * stride + j] = r[size_t(i) * d + j];
        to[size + j * stride + i] = r[size_t(i) * d + j];
      }
    return found->second;
  }
  /// Adds the centroids and, behind them, the boundaries. Returns the offset of the centroids.
  int64_t add_book(const GroupSpec& g) {
    std::vector<float> book(g.centroids.begin(), g.centroids.end());
    book.resize(padded(int(book.size())), 0.0f);
    book.insert(book.end(), g.boundaries.begin(), g.boundaries.end());
    book.resize(padded(int(book.size())), 0.0f);
    const auto [found, fresh] = books_.try_emplace(book, int64_t(all.size()));
    if (fresh) all.insert(all.end(), book.begin(), book.end());
    return found->second;
  }
  std::vector<float> all;

 private:
  std::map<const float*, int64_t> places_;
  std::map<std::vector<float>, int64_t> books_;
};

GroupTable pack_group(const GroupSpec& g, int first, Numbers& numbers) {
  const int d = int(g.coords.size());
  check(d >= 2 && d % 2 == 0 && g.bits >= 1 && g.bits <= 8, "CodeTables: dimension or bits of a group");
  check(g.rotation.size() == size_t(d) * d && g.centroids.size() == size_t(1) << g.bits &&
            g.boundaries.size() + 1 == g.centroids.size(),
        "CodeTables: tables of another size");
  GroupTable t{};
  t.d = d;
  t.bits = g.bits;
  t.first = first;
  t.stride = padded(d);
  t.norm_byte = int(g.norm_byte);
  t.bit_offset = int(g.bit_offset);
  t.rotation = numbers.add_rotation(g.rotation, d);
  t.transpose = t.rotation + int64_t(t.stride) * t.stride;
  t.centroids = numbers.add_book(g);
  t.boundaries = t.centroids + padded(1 << g.bits);
  return t;
}

CodeTable pack(const CodeSpec& spec, int64_t bytes_before, Numbers& numbers) {
  check(!spec.groups.empty() && spec.groups.size() <= kMaxCodeGroups, "CodeTables: number of groups");
  CodeTable t{};
  t.dim = spec.dim;
  t.n_groups = int(spec.groups.size());
  t.bytes = int(spec.bytes);
  t.bytes_before = bytes_before;
  std::vector<bool> taken(spec.dim);
  for (int i = 0; i < t.n_groups; ++i) {
    const GroupSpec& g = spec.groups[i];
    t.groups[i] = pack_group(g, t.n_slots, numbers);
    check(t.n_slots + t.groups[i].stride <= kMaxSlots, "CodeTables: more coordinates than the head has");
    for (int j = 0; j < t.groups[i].stride; ++j) {
      const int coord = j < t.groups[i].d ? g.coords[j] : -1;
      check(coord < spec.dim && (coord < 0 || !taken[coord]), "CodeTables: a coordinate twice or outside");
      if (coord >= 0) taken[coord] = true;
      t.coord[t.n_slots] = int16_t(coord);
      t.quad_group[t.n_slots / 4] = uint8_t(i);
      ++t.n_slots;
    }
    check(g.norm_byte + 2 <= spec.bytes && g.bit_offset + g.coords.size() * g.bits <= 8 * spec.bytes,
          "CodeTables: a group beyond the code");
  }
  for (const bool coord : taken) check(coord, "CodeTables: a coordinate in no group");
  return t;
}

}  // namespace

CodeTables::CodeTables(const std::vector<CodeSpec>& specs, const Stream& stream) {
  check(!specs.empty(), "CodeTables: no quantizer");
  dim_ = specs[0].dim;
  check(dim_ >= 2 && dim_ % 2 == 0 && dim_ <= kMaxCodeDim, "CodeTables: head dimension");
  Numbers numbers;
  std::vector<CodeTable> tables;
  bytes_before_ = {0};
  for (const CodeSpec& spec : specs) {
    check(spec.dim == dim_, "CodeTables: heads of different dimensions");
    tables.push_back(pack(spec, bytes_before_.back(), numbers));
    bytes_before_.push_back(bytes_before_.back() + int64_t(spec.bytes));
  }
  tables_ = Buffer(tables.size() * sizeof(CodeTable));
  numbers_ = Buffer(numbers.all.size() * sizeof(float));
  upload(tables_.as(), tables.data(), tables_.bytes(), stream);
  upload(numbers_.as(), numbers.all.data(), numbers_.bytes(), stream);
  stream.synchronize();  // the host's vectors end here
}

}  // namespace blockgtq::cuda
