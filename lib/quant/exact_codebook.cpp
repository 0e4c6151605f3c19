// With x = sin(phi) the density of a coordinate is cos(phi)^(d - 2) dphi. It has no singularity at d = 2, and
// the
// mass and first moment of a cell have closed forms.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>

#include "base/error.h"
#include "quant/codebook.h"

namespace blockgtq {

namespace {

constexpr int kMaxDim = 1024;

/// Half of the density, phi in [0, pi / 2], of total mass 1.
class Half {
 public:
  explicit Half(int d) : d_(d), mass_(1), total_(integral(std::numbers::pi / 2)) { mass_ = 1 / total_; }

  double mass(double a, double b) const { return (integral(b) - integral(a)) * mass_; }
  /// integral of x between sin(a) and sin(b)
  double moment(double a, double b) const {
    return (std::pow(std::cos(a), d_ - 1) - std::pow(std::cos(b), d_ - 1)) / (d_ - 1) * mass_;
  }
  double density(double phi) const { return std::pow(std::cos(phi), d_ - 2) * mass_; }  // per unit of phi

 private:
  /// integral of cos^(d - 2) from 0 to phi: integral(m) = cos^(m-1) sin / m + (m - 1) / m integral(m - 2)
  double integral(double phi) const {
    const double c = std::cos(phi), s = std::sin(phi);
    const int m = d_ - 2;
    double sum = m % 2 == 0 ? phi : s, power = m % 2 == 0 ? c : c * c;
    for (int i = m % 2 == 0 ? 2 : 3; i <= m; i += 2) {
      sum = power * s / i + double(i - 1) / i * sum;
      power *= c * c;
    }
    return sum;
  }
  int d_;
  double mass_, total_;
};

/// Boundaries of the cells of one half at high resolution: they cut the integral of density^(1/3) over x into
/// equal parts.
std::vector<double> companded(int d, int n_cells) {
  constexpr int kGrid = 1 << 14;
  std::vector<double> sum(kGrid + 1);
  const double step = std::numbers::pi / 2 / kGrid;
  for (int i = 0; i < kGrid; ++i) {
    const double phi = (i + 0.5) * step;
    sum[i + 1] = sum[i] + std::pow(std::cos(phi), (d - 3) / 3.0) * std::cos(phi);
  }
  std::vector<double> edges(n_cells + 1);
  size_t at = 0;
  for (int j = 1; j < n_cells; ++j) {
    const double wanted = sum.back() * j / n_cells;
    while (sum[at + 1] < wanted) ++at;
    edges[j] = step * (at + (wanted - sum[at]) / (sum[at + 1] - sum[at]));
  }
  edges[n_cells] = std::numbers::pi / 2;
  return edges;
}

/// One step of Newton's method on x_j = (c_{j-1} + c_j) / 2, whose Jacobian is tridiagonal. Where that would
/// put the edges out of order, or `newton` is false, it is a step of Lloyd's method. Returns the largest
/// relative change.
double refine(const Half& half, std::vector<double>& edges, std::vector<double>& centroids, bool newton) {
  const int n = int(centroids.size());
  std::vector<double> mass(n), below(n + 1), diagonal(n + 1), above(n + 1), rest(n + 1);
  for (int j = 0; j < n; ++j) {
    mass[j] = half.mass(edges[j], edges[j + 1]);
    centroids[j] = half.moment(edges[j], edges[j + 1]) / mass[j];
  }
  std::vector<double> next(edges);
  for (int j = 1; j < n; ++j) {
    const double x = std::sin(edges[j]), left = half.density(edges[j]) * (x - centroids[j - 1]) / mass[j - 1],
                 right = half.density(edges[j]) * (centroids[j] - x) / mass[j];
    // dc_{j-1} / dphi_j = left, dc_j / dphi_j = right; dx / dphi = cos(phi)
    const double outer =
        j + 1 < n ? half.density(edges[j + 1]) * (std::sin(edges[j + 1]) - centroids[j]) / mass[j] : 0;
    const double inner =
        j > 1 ? half.density(edges[j - 1]) * (centroids[j - 1] - std::sin(edges[j - 1])) / mass[j - 1] : 0;
    diagonal[j] = std::cos(edges[j]) - 0.5 * (left + right);
    below[j] = -0.5 * inner;
    above[j] = -0.5 * outer;
    rest[j] = 0.5 * (centroids[j - 1] + centroids[j]) - x;
  }
  for (int j = 2; j < n; ++j) {
    const double factor = below[j] / diagonal[j - 1];
    diagonal[j] -= factor * above[j - 1];
    rest[j] -= factor * rest[j - 1];
  }
  double step = 0;
  for (int j = n - 1; j >= 1; --j) {
    step = (rest[j] - above[j] * step) / diagonal[j];
    next[j] = edges[j] + step;
  }
  bool ordered = newton;
  for (int j = 0; j < n; ++j) ordered &= next[j] < next[j + 1];
  if (!ordered)
    for (int j = 1; j < n; ++j) next[j] = std::asin(0.5 * (centroids[j - 1] + centroids[j]));
  double move = 0;
  for (int j = 1; j < n; ++j) move = std::max(move, std::abs(next[j] - edges[j]) / next[j]);
  edges = std::move(next);
  return move;
}

struct Book {
  std::vector<double> centroids;
  double distortion;
};

Book build(int d, int bits) {
  const Half half(d);
  const int n = 1 << (bits - 1);
  std::vector<double> edges = companded(d, n), upper(n);
  // Lloyd's steps come first. They bring any start close enough for Newton's, which then double the digits.
  double move = 1;
  for (int i = 0; i < 200 && move > 1e-13; ++i) move = refine(half, edges, upper, i >= 20);
  check(move <= 1e-9, "exact_codebook: no convergence");
  Book book{std::vector<double>(2 * n), 0};
  double explained = 0;  // E c^2
  for (int j = 0; j < n; ++j) {
    const double mass = half.mass(edges[j], edges[j + 1]);
    upper[j] = half.moment(edges[j], edges[j + 1]) / mass;
    book.centroids[n + j] = upper[j];
    book.centroids[n - 1 - j] = -upper[j];
    explained += mass * upper[j] * upper[j];
  }
  // E x^2 = 1 / d, and a centroid is the mean of its cell: E (x - c)^2 = 1 / d - E c^2.
  book.distortion = 1 - d * explained;
  return book;
}

const Book& book(int d, int bits) {
  check(d >= 2 && d <= kMaxDim, "exact_codebook: dimension outside 2..1024");
  check(bits >= 1 && bits <= kMaxBits, "exact_codebook: bits outside 1..8");
  static std::mutex mutex;
  static std::map<std::array<int, 2>, Book> books;
  std::lock_guard lock(mutex);
  const auto found = books.find({d, bits});
  if (found != books.end()) return found->second;
  return books.emplace(std::array{d, bits}, build(d, bits)).first->second;
}

}  // namespace

const std::vector<double>& exact_codebook(int d, int bits) {
  return book(d, bits).centroids;
}

double exact_distortion(int d, int bits) {
  return bits == 0 ? 1 : book(d, bits).distortion;
}

}  // namespace blockgtq
