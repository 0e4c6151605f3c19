// Packs codes for the device: one LinearTable per code, and one array with all of their numbers, which the
// tables point into. Matrices are transposed and padded with zeros, so that the lanes of a warp read
// neighbouring columns and check no bounds. A head of D = 128 takes 128 KB, and twice that with a fallback.
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/codes/linear_table.cuh"
#include "kernels/device/check.cuh"
#include "quant/trellis.h"

namespace blockgtq::cuda {
namespace {

constexpr int kLanes = 32;

int padded(int n, int to) {
  return (n + to - 1) / to * to;
}

/// Arrays of any type one after the other, each at a multiple of 16 bytes.
class Bytes {
 public:
  template <class T>
  int64_t add(const T* from, size_t n) {
    const size_t at = all.size();
    all.resize(at + (n * sizeof(T) + 15) / 16 * 16);
    if (n) std::memcpy(all.data() + at, from, n * sizeof(T));
    return int64_t(at);
  }
  std::vector<std::byte> all;
};

/// m (rows, cols) -> m^T (cols padded to a multiple of 4, rows padded to a multiple of 32), zeros beyond.
int64_t add_transposed(const float* m, int rows, int cols, Bytes& bytes) {
  const int pitch = padded(rows, kLanes);
  std::vector<float> t(size_t(padded(cols, 4)) * pitch);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) t[size_t(j) * pitch + i] = m[size_t(i) * cols + j];
  return bytes.add(t.data(), t.size());
}

template <class T>
const T* place(int64_t offset) {  // holds an offset until move() adds the device's address
  return reinterpret_cast<const T*>(offset);
}

/// Packs one code. Pointers of the table hold offsets from the start of `bytes`; null ones stay null.
LinearTable pack(const LinearCode& code, const std::vector<float>& z_centres, Bytes& bytes) {
  LinearTable t{};
  t.dim = code.dim;
  t.n = code.n_coords();
  t.n_groups = int(code.groups.size());
  t.n_centres = code.n_centres();
  t.x_pitch = padded(t.dim, kLanes), t.z_pitch = padded(t.n, kLanes),
  t.centre_pitch = padded(t.n_centres, kLanes);
  check(t.dim >= 1 && t.dim <= kMaxLinearDim && t.n <= t.dim, "LinearTables: dimension");
  check(z_centres.size() == size_t(t.n_centres) * t.n, "LinearTables: centres of another size");
  check(!code.mean_flag, "LinearTables: a flag for the mean, which pages have");
  const std::vector<float> nothing(16);
  bytes.add(nothing.data(), nothing.size());  // so that no array has offset zero, which reads as null
  const auto weight_of = [&](const LinearCode::Group& g) {
    return trellis_weight(code.one_norm ? t.n : g.d, g.bits);
  };
  std::vector<LinearGroup> groups;
  int first = 0;
  for (const LinearCode::Group& g : code.groups) {
    const std::vector<float> boundaries = g.boundaries();
    if (g.trellis) {
      check(t.n_trellis == int(groups.size()), "LinearTables: a trellis behind scalar codes");
      ++t.n_trellis, t.n_stream += g.d;
    }
    groups.push_back({first, g.d, g.bits, g.trellis ? weight_of(g) / weight_of(code.groups[0]) : 1,
                      place<float>(bytes.add(g.centroids.data(), g.centroids.size())),
                      place<float>(bytes.add(boundaries.data(), boundaries.size()))});
    first += g.d;
  }
  std::vector<LinearSpan> spans;
  for (const LinearCode::Span& span : code.spans()) spans.push_back({int(span.first), int(span.d)});
  t.n_spans = int(spans.size());
  check(t.n_spans <= kLanes, "LinearTables: norms");
  t.groups = place<LinearGroup>(bytes.add(groups.data(), groups.size()));
  t.spans = place<LinearSpan>(bytes.add(spans.data(), spans.size()));
  t.forward = place<float>(add_transposed(code.forward.data(), t.n, t.dim, bytes));
  t.backward = place<float>(add_transposed(code.backward.data(), t.dim, t.n, bytes));
  if (!code.mean.empty()) t.mean = place<float>(bytes.add(code.mean.data(), code.mean.size()));
  if (!code.weight.empty()) t.weight = place<float>(bytes.add(code.weight.data(), code.weight.size()));
  if (t.n_centres == 0) return t;
  std::vector<double> squares(t.n_centres);
  for (size_t i = 0; i < z_centres.size(); ++i) squares[i / t.n] += double(z_centres[i]) * z_centres[i];
  t.centres = place<float>(bytes.add(code.centres.data(), code.centres.size()));
  t.z_centres = place<float>(bytes.add(z_centres.data(), z_centres.size()));
  t.z_columns = place<float>(add_transposed(z_centres.data(), t.n_centres, t.n, bytes));
  t.squares = place<double>(bytes.add(squares.data(), squares.size()));
  return t;
}

template <class T>
void move(const T*& p, const std::byte* base) {
  if (p) p = reinterpret_cast<const T*>(base + reinterpret_cast<int64_t>(p));
}

/// Turns the offsets of a table and of its groups into addresses. `base` is the device's address of `bytes`.
void move(LinearTable& t, std::byte* bytes, const std::byte* base) {
  auto* groups = reinterpret_cast<LinearGroup*>(bytes + reinterpret_cast<int64_t>(t.groups));
  for (int g = 0; g < t.n_groups; ++g) move(groups[g].centroids, base), move(groups[g].boundaries, base);
  move(t.groups, base), move(t.spans, base), move(t.forward, base), move(t.backward, base),
      move(t.mean, base);
  move(t.weight, base), move(t.centres, base), move(t.z_centres, base), move(t.z_columns, base);
  move(t.squares, base);
}

}  // namespace

LinearTables::LinearTables(std::span<const LinearSpec> specs, const Stream& stream) {
  // A code and its fallback lie side by side.
  std::vector<LinearTable> tables(2 * specs.size());
  std::vector<Bytes> bytes(tables.size());
  parallel_for(specs.size(), [&](size_t i) {
    const LinearCode& code = specs[i].code;
    tables[2 * i] = pack(code, specs[i].z_centres, bytes[2 * i]);
    if (!code.fallback) return;
    check(code.fallback->centres.empty() && !code.fallback->fallback && code.fallback->dim == code.dim,
          "LinearTables: a fallback that does not fit");
    tables[2 * i + 1] = pack(*code.fallback, {}, bytes[2 * i + 1]);
  });
  size_t total = 0;
  for (const Bytes& b : bytes) total += b.all.size();
  numbers_ = Buffer(total);
  tables_ = Buffer(tables.size() * sizeof(LinearTable));
  std::vector<std::byte> all;
  all.reserve(total);
  for (size_t i = 0; i < tables.size(); ++i) {
    move(tables[i], bytes[i].all.data(), numbers_.as<std::byte>() + all.size());
    all.insert(all.end(), bytes[i].all.begin(), bytes[i].all.end());
    if (i % 2 == 0 && specs[i / 2].code.fallback) tables[i].fallback = table(i / 2) + 1;
  }
  upload(numbers_.as(), all.data(), all.size(), stream);
  upload(tables_.as(), tables.data(), tables_.bytes(), stream);
  stream.synchronize();  // the host's vectors end here
}

const LinearTable* LinearTables::table(size_t i) const {
  return tables_.as<LinearTable>() + 2 * i;
}

}  // namespace blockgtq::cuda
