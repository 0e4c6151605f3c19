#pragma once
#include <span>
#include <vector>

#include "quant/stats.h"

namespace blockgtq {

/// The energies of one KV head that an allocator works on, all (B), finite and not negative.
struct HeadEnergy {
  std::vector<double> score;  // s_i, of greedy and exact
  std::vector<double> q;      // Eq_i = E|q^(i)|^2
  std::vector<double> k;      // Ek_i = E|k^(i)|^2 of what is quantized; only mixing needs q and k
};

/// Which form of the keys is quantized, and so whose energies count. published: keys as they are, score (Eq +
/// Ek) / 2. balanced: keys less their mean, scaled by (Eq / Ekc)^(1/4), score Eq Ekc; query and key energies
/// are then equal.
enum class KeyForm { published, balanced };

/// Energies of one KV head over the chunks of the statistics. Chunk c counts times[c] times; times is
/// (n_chunks), or empty where each counts once.
HeadEnergy head_energy(const Stats& stats, int layer, int kv_head, KeyForm form,
                       std::span<const int> times = {});

}  // namespace blockgtq
