// oscar: a rotation per layer for OSCAR's 2-bit cache, as torch.save writes it. Keys and values have a file
// each
// (--engine-type keys or values). The reader: FutureMLS-Lab/OSCAR 473ff3f9,
//   sglang-research/python/sglang/srt/mem_cache/memory_pool.py (load_oscar_rotations):
//   {"layers": {number: {"rotation": float32 (D, D), ...}}}, a row vector x is cached as x R
// The rotation is the R H P of rotation/compute_kv_rotation.py: eigenvectors of the layer's mean second
// moment in ascending order, Hadamard, and the columns in bit-reversed order of the eigenvalues.
// - Keys are rotated behind RoPE, whose angles average their second moment over a block and between blocks:
// it is
//   diagonal, with the energies of queries that the map holds.
// - The second moment of values comes from the map's basis of values.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "quant/eigen.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"
#include "report/torch_file.h"

namespace blockgtq {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr int kBits = 2;

/// Of D and Dv alike: the engine has one head dimension, and Hadamard matrices of powers of two.
void require_shape(const BitMap& map) {
  const int dim = map.shape.layout.head_dim;
  if (!std::has_single_bit(unsigned(dim)) || map.shape.v_dim != dim)
    fail_input("map: heads of {} and {} coordinates: OSCAR has keys and values alike, of a power of two", dim,
               map.shape.v_dim);
  if (map.calibration.empty() || map.calibration[0].v_spectrum.empty())
    fail_input("map: it has no basis of values, from which OSCAR's rotations are made");
}

Matrix key_moment(const BitMap& map, int layer) {
  Eigen::VectorXd diagonal = Eigen::VectorXd::Zero(map.shape.layout.head_dim);
  for (int h = 0; h < map.shape.n_kv_heads; ++h) {
    const HeadCalibration& c = map.calibration[size_t(layer) * map.shape.n_kv_heads + h];
    for (int b = 0; b < map.n_blocks(); ++b)
      for (const int coordinate : map.shape.layout.coords(b))
        diagonal[coordinate] += c.q_energy[size_t(b)] / 2;
  }
  return (diagonal / map.shape.n_kv_heads).asDiagonal();
}

Matrix value_moment(const BitMap& map, int layer) {
  const int dim = map.shape.v_dim;
  Matrix moment = Matrix::Zero(dim, dim);
  for (int h = 0; h < map.shape.n_kv_heads; ++h) {
    const HeadCalibration& c = map.calibration[size_t(layer) * map.shape.n_kv_heads + h];
    const Eigen::Map<const Eigen::VectorXd> mean(c.v_mean.data(), dim), spectrum(c.v_spectrum.data(), dim);
    const Matrix back =
        Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
            c.v_backward.data(), dim, dim)
            .cast<double>();
    moment += back * spectrum.asDiagonal() * back.transpose() + mean * mean.transpose();
  }
  return moment / map.shape.n_kv_heads;
}

Matrix hadamard(int n) {
  Matrix h(n, n);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      h(i, j) = (std::popcount(unsigned(i & j)) % 2 ? -1 : 1) / std::sqrt(double(n));
  return h;
}

/// Where the eigenvalues, descending, go: place r to the bits of r in reverse.
std::vector<int> bit_reversed(const std::vector<int>& descending) {
  const int n = int(descending.size()), width = std::countr_zero(unsigned(n));
  std::vector<int> order(descending.size());
  for (int r = 0; r < n; ++r) {
    int reversed = 0;
    for (int bit = 0; bit < width; ++bit) reversed |= (r >> bit & 1) << (width - 1 - bit);
    order[size_t(reversed)] = descending[size_t(r)];
  }
  return order;
}

/// A diagonal moment has the unit vectors, in order; the largest entry of every other eigenvector is
/// positive.
void eigenvectors(const Matrix& moment, Matrix& vectors, Eigen::VectorXd& values) {
  const int n = int(moment.rows());
  if (!moment.isDiagonal(0)) {
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(moment);
    check(solver.info() == Eigen::Success, "eigenvalues of a second moment");
    vectors = solver.eigenvectors();
    values = solver.eigenvalues();
    for (int j = 0; j < n; ++j) {
      Eigen::Index largest = 0;
      vectors.col(j).cwiseAbs().maxCoeff(&largest);
      if (vectors(largest, j) < 0) vectors.col(j) = -vectors.col(j).eval();
    }
    return;
  }
  std::vector<int> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return moment(a, a) < moment(b, b); });
  vectors = Matrix::Zero(n, n);
  values.resize(n);
  for (int j = 0; j < n; ++j) {
    vectors(order[size_t(j)], j) = 1;
    values[j] = moment(order[size_t(j)], order[size_t(j)]);
  }
}

LayerRotation rotation(const Matrix& moment, int number) {
  Matrix vectors;
  Eigen::VectorXd values;
  eigenvectors(moment, vectors, values);
  const int n = int(moment.rows());
  std::vector<int> descending(static_cast<size_t>(n));
  for (int j = 0; j < n; ++j) descending[size_t(j)] = n - 1 - j;
  const std::vector<int> order = bit_reversed(descending);
  const Matrix turned = vectors * hadamard(n);
  LayerRotation out{number, {}, {}};
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) out.rotation.push_back(float(turned(i, order[size_t(j)])));
  for (int j = 0; j < n; ++j) out.eigenvalues.push_back(float(values[j]));
  return out;
}

}  // namespace

EngineExport write_oscar(const BitMap& map, const Budget&, const EngineOptions& options) {
  if (!options.type.empty() && options.type != "keys" && options.type != "values")
    throw Error(Exit::usage, fmt::format("--engine-type: '{}' is none of keys, values", options.type));
  require_shape(map);
  const bool values = options.type == "values";
  std::vector<LayerRotation> layers;
  for (int l = 0; l < map.shape.n_layers; ++l)
    layers.push_back(rotation(values ? value_moment(map, l) : key_moment(map, l), layer_number(map, l)));
  return {torch_rotations(layers, values ? "vtv" : "qqt"), std::vector<uint8_t>(map.energy.size(), kBits)};
}

/// The engine looks no further than at shapes; a rotation must be one, too.
std::vector<uint8_t> read_oscar(const std::string& bytes, const BitMap& map, const Budget&,
                                const std::string& file) {
  require_shape(map);
  const int n = map.shape.layout.head_dim;
  const std::vector<LayerRotation> layers = read_torch_rotations(bytes, layer_numbers(map), n, file);
  for (const LayerRotation& layer : layers) {
    const Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> r(
        layer.rotation.data(), n, n);
    const double error = (r.transpose() * r - Eigen::MatrixXf::Identity(n, n)).cwiseAbs().maxCoeff();
    if (!(error < 1e-4))
      fail_input("{}: layer {}: not a rotation: R^T R is off by {:.2g}", file, layer.number, error);
  }
  return std::vector<uint8_t>(map.energy.size(), kBits);
}

}  // namespace blockgtq
