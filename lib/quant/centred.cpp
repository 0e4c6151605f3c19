#include "quant/centred.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "quant/group_code.h"
#include "quant/group_order.h"

namespace blockgtq {

namespace {

/// An energy of zero (a block that never changes, or that no query reads) is replaced by this share of the
/// mean, so that scales stay finite.
constexpr double kLeastShare = 1e-5;

std::vector<double> raised(std::vector<double> energy) {
  const double mean = std::accumulate(energy.begin(), energy.end(), 0.0) / double(energy.size());
  const double least = mean > 0 ? mean * kLeastShare : 1;
  for (double& e : energy) e = std::max(e, least);
  return energy;
}

Basis centred(const HeadMap& head, Balance balance) {
  const HeadCalibration& calibration = *head.calibration;
  const BlockLayout& layout = head.layout;
  const size_t dim = layout.head_dim;
  const std::vector<double> k = raised(centred_energy(layout, calibration));
  std::vector<double> scales(k.size(), 1);
  if (balance == Balance::blocks) scales = balance_scales(layout, calibration);
  Basis basis;
  basis.dim = int(dim);
  basis.mean.assign(calibration.k_mean.begin(), calibration.k_mean.end());
  basis.forward.resize(dim * dim);
  basis.backward.resize(dim * dim);
  basis.energy.resize(dim);
  for (int b = 0; b < layout.n_blocks(); ++b) {
    const double scale = scales[b];
    for (const int c : layout.coords(b)) {
      basis.forward[c * dim + c] = scale;
      basis.backward[c * dim + c] = 1 / scale;
      basis.energy[c] = 0.5 * scale * scale * k[b];
    }
  }
  return basis;
}

}  // namespace

std::vector<double> centred_energy(const BlockLayout& layout, const HeadCalibration& calibration) {
  std::vector<double> energy = calibration.k_energy;
  for (int b = 0; b < layout.n_blocks(); ++b) {
    for (const int c : layout.coords(b)) energy[b] -= calibration.k_mean[c] * calibration.k_mean[c];
    energy[b] = std::max(energy[b], 0.0);  // the difference of two rounded numbers may be below 0
  }
  return energy;
}

std::vector<double> balance_scales(const BlockLayout& layout, const HeadCalibration& calibration) {
  const std::vector<double> q = raised(calibration.q_energy), k = raised(centred_energy(layout, calibration));
  std::vector<double> scales;
  for (size_t b = 0; b < k.size(); ++b) scales.push_back(std::pow(q[b] / k[b], 0.25));
  return scales;
}

std::vector<double> product_score(const BlockLayout& layout, const HeadCalibration& calibration) {
  std::vector<double> score = centred_energy(layout, calibration);
  for (size_t b = 0; b < score.size(); ++b) score[b] *= calibration.q_energy[b];
  return score;
}

LinearCode centred_blocks(const HeadMap& head, std::span<const uint8_t> bits, bool one_norm,
                          Codebook codebook, Balance balance) {
  check(bits.size() == size_t(head.layout.n_blocks()), "centred_blocks: bits of another number of blocks");
  std::vector<CoordGroup> groups;
  const std::vector<int> order = group_order(bits);
  for (int width = 1; width <= kMaxBits; ++width) {
    CoordGroup group{{}, width, head.seed + uint64_t(width)};
    for (const int b : order)
      if (bits[b] == width)
        for (const int c : head.layout.coords(b)) group.coords.push_back(c);
    if (!group.coords.empty()) groups.push_back(std::move(group));
  }
  return group_code(centred(head, balance), groups, one_norm, codebook);
}

LinearCode centred_uniform(const HeadMap& head, int bits, Codebook codebook) {
  CoordGroup group{std::vector<int>(head.layout.head_dim), bits, head.seed};
  std::iota(group.coords.begin(), group.coords.end(), 0);
  return group_code(centred(head, Balance::blocks), {group}, true, codebook);
}

}  // namespace blockgtq
