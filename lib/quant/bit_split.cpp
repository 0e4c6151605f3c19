#include "quant/bit_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "quant/codebook.h"

namespace blockgtq {

namespace {

constexpr double kStep = 0.25;      // bits
constexpr double kMoreBits = 1.25;  // more than the even split: nothing further away was ever best
constexpr double kGuard = 1e-9;     // for sums of averages that came from decimal text

bool is_whole(double bits) {
  return bits == std::floor(bits);
}

}  // namespace

std::string bits_text(double bits) {
  return fmt::format("{:g}", bits);
}

std::vector<double> bit_steps(double bits, bool whole) {
  if (bits == 0) return {0};
  std::vector<double> steps;
  for (double b = 1; b <= std::min(bits + kMoreBits, double(kMaxBits)); b += kStep) steps.push_back(b);
  if (std::find(steps.begin(), steps.end(), bits) == steps.end()) steps.push_back(bits);
  std::sort(steps.begin(), steps.end());
  if (whole) std::erase_if(steps, [](double b) { return !is_whole(b); });
  return steps;
}

BitPair even_split(double average, const SplitShape& shape) {
  const double all = average * (shape.k_dim + shape.v_dim);
  BitPair best;
  double best_spent = -1;
  for (const double k : bit_steps(average, shape.k_whole))
    for (const double v : bit_steps(shape.v_dim ? average : 0, shape.v_whole)) {
      const double spent = k * shape.k_dim + v * shape.v_dim;
      if (spent > all + kGuard || spent < best_spent - kGuard) continue;
      const bool more = spent > best_spent + kGuard;
      const double apart = std::abs(k - v) - std::abs(best.k - best.v);
      if (!more && (apart > kGuard || (apart > -kGuard && k < best.k))) continue;
      best = {k, v};
      best_spent = spent;
    }
  return best;
}

std::vector<BitPair> splits_under(double ceiling, const std::vector<PricedBits>& keys,
                                  const std::vector<PricedBits>& values) {
  std::vector<BitPair> splits;
  for (const PricedBits& k : keys) {
    const PricedBits* most = nullptr;
    for (const PricedBits& v : values)
      if (k.bytes + v.bytes <= ceiling) most = &v;
    if (!most) continue;
    std::erase_if(splits, [&](const BitPair& fewer) { return fewer.v == most->bits; });
    splits.push_back({k.bits, most->bits});
  }
  return splits;
}

}  // namespace blockgtq
