#include "quant/group_code.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/rotation.h"

namespace blockgtq {

namespace {

/// The largest entry of `forward` over an RMS: with it the entry, and its products with keys, fit in a float.
constexpr double kLargestScale = 1e30;

/// Root mean square of the group's coordinates; 1 for a group that was constant in calibration. A group that
/// is too small to be scaled to 1 stays small: fp16 could not hold its norm anyway.
double group_rms(const Basis& basis, const CoordGroup& group) {
  double sum = 0, largest = 0;
  for (const int c : group.coords) {
    sum += basis.energy[c];
    for (int j = 0; j < basis.dim; ++j)
      largest = std::max(largest, std::abs(basis.forward[size_t(c) * basis.dim + j]));
  }
  if (sum == 0) return 1;
  return std::max(std::sqrt(sum / double(group.coords.size())), largest / kLargestScale);
}

}  // namespace

LinearCode group_code(const Basis& basis, const std::vector<CoordGroup>& groups, bool one_norm,
                      Codebook codebook) {
  const size_t dim = basis.dim;
  size_t n = 0;
  for (const CoordGroup& g : groups) n += g.coords.size();
  LinearCode code;
  code.dim = int(dim);
  code.one_norm = one_norm;
  code.mean = basis.mean;
  code.forward.resize(n * dim);
  code.backward.resize(dim * n);
  size_t first = 0;  // of the group's coordinates in z
  std::vector<double> row(dim);
  for (const CoordGroup& group : groups) {
    const size_t d = group.coords.size();
    const double rms = group_rms(basis, group);
    const std::vector<float>& rotation = *shared_rotation(int(d), group.seed);
    const std::vector<double> book = unit_centroids(codebook, int(one_norm ? n : d), group.bits);
    code.groups.push_back({int(d), group.bits, {book.begin(), book.end()}});
    for (size_t i = 0; i < d; ++i) {
      row.assign(dim, 0);
      for (size_t j = 0; j < d; ++j) {
        const double r = rotation[i * d + j] / rms;
        const double* from = &basis.forward[size_t(group.coords[j]) * dim];
        for (size_t c = 0; c < dim; ++c) row[c] += r * from[c];
      }
      for (size_t c = 0; c < dim; ++c) code.forward[(first + i) * dim + c] = float(row[c]);
      // the inverse of a rotation is its transpose
      for (size_t c = 0; c < dim; ++c) {
        double sum = 0;
        for (size_t j = 0; j < d; ++j) sum += basis.backward[c * dim + group.coords[j]] * rotation[i * d + j];
        code.backward[c * n + first + i] = float(sum * rms);
      }
    }
    first += d;
  }
  return code;
}

}  // namespace blockgtq
