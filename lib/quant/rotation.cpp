#include "quant/rotation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "quant/random.h"

namespace blockgtq {

namespace {

// rows [from, d) of m (d, d), columns [from, d):  m -= scale * v (v^T m).  It works on whole rows: the sum of
// every column runs over the rows in ascending order, whatever the processor's vector width.
void reflect(std::vector<double>& m, int d, int from, const std::vector<double>& v, double scale,
             std::vector<double>& projection) {
  std::fill(projection.begin() + from, projection.end(), 0.0);
  for (int i = from; i < d; ++i) {
    const double* row = &m[size_t(i) * d];
    for (int j = from; j < d; ++j) projection[j] += v[i] * row[j];
  }
  for (int i = from; i < d; ++i) {
    double* row = &m[size_t(i) * d];
    const double factor = scale * v[i];
    for (int j = from; j < d; ++j) row[j] -= factor * projection[j];
  }
}

}  // namespace

std::vector<double> haar_rotation(int d, uint64_t seed) {
  check(d >= 1, "haar_rotation: dimension below 1");
  Random random(seed);
  std::vector<double> m(size_t(d) * d);
  for (double& x : m) x = random.standard_normal();

  // Householder QR: reflections I - scale_k v_k v_k^T, k = 0 .. d-2, turn m into R. Only the diagonal of R is
  // needed.
  std::vector<std::vector<double>> v(d - 1);
  std::vector<double> scale(v.size()), projection(d);
  for (int k = 0; k + 1 < d; ++k) {
    v[k].assign(d, 0.0);
    double tail = 0;
    for (int i = k + 1; i < d; ++i) {
      v[k][i] = m[size_t(i) * d + k];
      tail += v[k][i] * v[k][i];
    }
    const double head = m[size_t(k) * d + k];
    if (tail == 0) continue;  // nothing to annihilate: scale 0, the identity
    const double diagonal = -std::copysign(std::sqrt(head * head + tail), head);
    v[k][k] = head - diagonal;
    scale[k] = 2 / (v[k][k] * v[k][k] + tail);
    reflect(m, d, k, v[k], scale[k], projection);
  }

  // Q = H_0 H_1 ... is applied to the identity, the last reflection first. Each reflection has determinant
  // -1.
  std::vector<double> q(size_t(d) * d, 0.0);
  for (int i = 0; i < d; ++i) q[size_t(i) * d + i] = 1;
  bool negative = false;
  for (int k = d - 2; k >= 0; --k) {
    if (scale[k] == 0) continue;
    negative = !negative;
    reflect(q, d, k, v[k], scale[k], projection);
  }

  // Columns times sign(diag R) make the distribution Haar. The sign of the first column makes it a rotation.
  std::vector<double> sign(d);
  for (int j = 0; j < d; ++j) {
    sign[j] = m[size_t(j) * d + j] < 0 ? -1 : 1;
    negative ^= sign[j] < 0;
  }
  if (negative) sign[0] = -sign[0];
  for (int i = 0; i < d; ++i)
    for (int j = 0; j < d; ++j) q[size_t(i) * d + j] *= sign[j];
  return q;
}

std::shared_ptr<const std::vector<float>> shared_rotation(int d, uint64_t seed) {
  static std::mutex mutex;
  static std::map<std::pair<int, uint64_t>, std::shared_ptr<const std::vector<float>>> cache;
  {
    std::lock_guard lock(mutex);
    if (const auto found = cache.find({d, seed}); found != cache.end()) return found->second;
  }
  // Computed outside the lock. Two threads may both compute it; the first result is kept.
  const std::vector<double> rotation = haar_rotation(d, seed);
  auto rounded = std::make_shared<const std::vector<float>>(rotation.begin(), rotation.end());
  std::lock_guard lock(mutex);
  return cache.try_emplace({d, seed}, std::move(rounded)).first->second;
}

}  // namespace blockgtq
