#include "cache/centre_rule.h"

#include <cmath>

#include "base/error.h"
#include "cache/page_layout.h"

namespace blockgtq {
namespace {

constexpr double kRounding = 1e-5;  // relative: forward is float32

/// Whether F^T F is a multiple of the identity.
bool keeps_distances(const LinearCode& code) {
  const size_t dim = size_t(code.dim), n = size_t(code.n_coords());
  const auto entry = [&](size_t a, size_t b) {
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += double(code.forward[j * dim + a]) * code.forward[j * dim + b];
    return sum;
  };
  const double first = entry(0, 0);
  for (size_t a = 0; a < dim; ++a)
    for (size_t b = 0; b <= a; ++b)
      if (std::abs(entry(a, b) - (a == b ? first : 0)) > kRounding * first) return false;
  return true;
}

}  // namespace

CentreRule::CentreRule(const LinearCode& value) : dim(value.dim), centres(value.centres) {
  check(value.n_centres() > 0 && value.n_centres() <= kMostCentres && value.mean.empty(),
        "CentreRule: centres as paged() makes them");
  check(keeps_distances(value), "CentreRule: coordinates of several weights");
  for (size_t first = 0; first < centres.size(); first += size_t(dim)) {
    double square = 0;
    for (size_t d = first; d < first + size_t(dim); ++d) square += double(centres[d]) * centres[d];
    limits.push_back(float(square / 2));
  }
}

CentreRule::Choice CentreRule::choose(const float* x) const {
  Choice best;
  float least = 0;
  for (size_t i = 0; i < limits.size(); ++i) {
    float sum = limits[i];
    for (size_t d = 0; d < size_t(dim); ++d) sum = std::fma(-centres[i * size_t(dim) + d], x[d], sum);
    if (i == 0 || sum < least) least = sum, best.centre = int(i);
  }
  best.keeps = least > 0;
  return best;
}

}  // namespace blockgtq
