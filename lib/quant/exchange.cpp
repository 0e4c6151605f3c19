#include "quant/exchange.h"

#include <array>

#include "base/error.h"
#include "quant/codebook.h"

namespace blockgtq {

namespace {

constexpr int kMaxSweeps = 100;
constexpr double kLeastGain = 1e-12;  // relative; a smaller gain is rounding

struct Group {
  int n = 0;
  double q = 0, k = 0;  // sums over the group
};
using Groups = std::array<Group, kMaxBits + 1>;  // by width

Groups groups_of(std::span<const double> q, std::span<const double> k, std::span<const uint8_t> bits) {
  Groups groups;
  for (size_t i = 0; i < bits.size(); ++i) {
    check(bits[i] >= 1 && bits[i] <= kMaxBits, "mixing_error: bits outside 1..8");
    Group& g = groups[bits[i]];
    ++g.n;
    g.q += q[i];
    g.k += k[i];
  }
  return groups;
}

double total(const Groups& groups, const Distortion& distortion) {
  double error = 0;
  for (int b = 1; b <= kMaxBits; ++b)
    if (const Group& g = groups[b]; g.n > 0) error += 0.5 * distortion(b, g.n) * g.q * g.k / g.n;
  return error;
}

}  // namespace

double mixing_error(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                    std::span<const uint8_t> bits) {
  check(q.size() == bits.size() && k.size() == bits.size(), "mixing_error: another number of blocks");
  return total(groups_of(q, k, bits), distortion);
}

double exchange_blocks(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                       std::vector<uint8_t>& bits) {
  double error = mixing_error(q, k, distortion, bits);
  Groups groups = groups_of(q, k, bits);
  std::array<double, kMaxBits + 1> factor{};  // of q * k of a group
  for (int b = 1; b <= kMaxBits; ++b)
    if (groups[b].n > 0) factor[b] = 0.5 * distortion(b, groups[b].n) / groups[b].n;

  bool gained = true;
  for (int sweep = 0; sweep < kMaxSweeps && gained; ++sweep) {
    gained = false;
    for (size_t i = 0; i < bits.size(); ++i)
      for (size_t j = i + 1; j < bits.size(); ++j) {
        if (bits[i] == bits[j]) continue;
        const int a = bits[i], b = bits[j];
        const double dq = q[j] - q[i], dk = k[j] - k[i];  // what group a gains and group b loses
        const double before = factor[a] * groups[a].q * groups[a].k + factor[b] * groups[b].q * groups[b].k;
        const double after = factor[a] * (groups[a].q + dq) * (groups[a].k + dk) +
                             factor[b] * (groups[b].q - dq) * (groups[b].k - dk);
        if (!(after < before - kLeastGain * error)) continue;
        std::swap(bits[i], bits[j]);
        groups[a].q += dq, groups[a].k += dk;
        groups[b].q -= dq, groups[b].k -= dk;
        gained = true;
      }
    if (gained) {  // sum again, so that rounding does not add up
      groups = groups_of(q, k, bits);
      error = total(groups, distortion);
    }
  }
  return error;
}

}  // namespace blockgtq
