#include "quant/codebook.h"

#include <array>
#include <cmath>
#include <mutex>

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr int kLloydIterations = 100;
const double kSqrtHalf = std::sqrt(0.5);
const double kInverseSqrt2Pi = 1 / std::sqrt(2 * 3.14159265358979323846);

double upper_tail(double x) {
  return 0.5 * std::erfc(x * kSqrtHalf);
}  // P(N(0,1) > x)
double density(double x) {
  return kInverseSqrt2Pi * std::exp(-0.5 * x * x);
}

// The x >= 0 with upper_tail(x) = q, q in (0, 1/2]. upper_tail is convex there, so Newton's method from 0
// approaches the root from below and never overshoots.
double upper_quantile(double q) {
  double x = 0;
  for (int i = 0; i < 64; ++i) {
    const double step = (upper_tail(x) - q) / density(x);
    x += step;
    if (std::abs(step) < 1e-15 * (1 + x)) break;
  }
  return x;
}

// The centroids are symmetric, so only those above zero are iterated. Cell j lies between boundary[j] and
// boundary[j + 1]; the last cell is open.
std::vector<double> lloyd(int bits) {
  const int half = 1 << (bits - 1);
  std::vector<double> boundary(half), centroid(half);
  for (int j = 0; j < half; ++j) boundary[j] = upper_quantile(0.5 - 0.5 * j / half);
  // Iteration 0 only computes the centroids of the quantile cells.
  for (int iteration = 0; iteration <= kLloydIterations; ++iteration) {
    if (iteration > 0)
      for (int j = 1; j < half; ++j) boundary[j] = 0.5 * (centroid[j - 1] + centroid[j]);
    double tail = 0, edge = 0;  // of the part beyond the cell's outer boundary
    for (int j = half - 1; j >= 0; --j) {
      const double inner_tail = upper_tail(boundary[j]), inner_edge = density(boundary[j]);
      centroid[j] = (inner_edge - edge) / (inner_tail - tail);
      tail = inner_tail;
      edge = inner_edge;
    }
  }
  return centroid;
}

std::vector<double> build(int bits) {
  std::vector<double> upper;
  if (bits == 1)
    upper = {2 * kInverseSqrt2Pi};
  else if (bits == 2)
    upper = {0.453, 1.51};
  else
    upper = lloyd(bits);
  std::vector<double> all(2 * upper.size());
  for (size_t j = 0; j < upper.size(); ++j) {
    all[upper.size() + j] = upper[j];
    all[upper.size() - 1 - j] = -upper[j];
  }
  return all;
}

}  // namespace

const std::vector<double>& normal_codebook(int bits) {
  check(bits >= 1 && bits <= kMaxBits, "normal_codebook: bits outside 1..8");
  static std::array<std::once_flag, kMaxBits + 1> once;
  static std::array<std::vector<double>, kMaxBits + 1> books;
  std::call_once(once[bits], [bits] { books[bits] = build(bits); });
  return books[bits];
}

std::vector<double> unit_centroids(Codebook codebook, int d, int bits) {
  if (codebook == Codebook::exact) return exact_codebook(d, bits);
  check(codebook == Codebook::reference, "unit_centroids: which codebook");
  std::vector<double> centroids = normal_codebook(bits);
  for (double& c : centroids) c *= 1 / std::sqrt(double(d));
  return centroids;
}

Codebook parse_codebook(const std::string& name) {
  if (name.empty()) return Codebook::by_method;
  check(name == "reference" || name == "exact", "parse_codebook: unknown name");
  return name == "exact" ? Codebook::exact : Codebook::reference;
}

Code parse_code(const std::string& name) {
  check(name == "scalar" || name == "trellis", "parse_code: unknown name");
  return name == "trellis" ? Code::trellis : Code::scalar;
}

const char* name(Code code) {
  return code == Code::trellis ? "trellis" : "scalar";
}

const char* name(Codebook codebook) {
  return codebook == Codebook::exact ? "exact" : codebook == Codebook::reference ? "reference" : "by method";
}

}  // namespace blockgtq
