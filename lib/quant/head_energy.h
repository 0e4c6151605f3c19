#pragma once
#include <span>
#include <vector>

#include "quant/stats.h"

namespace blockgtq {

/// One KV head as an allocator sees it; all (B), finite and not negative.
struct HeadEnergy {
  std::vector<double> score;  // s_i, what greedy and exact go by
  std::vector<double> q;      // Eq_i = E|q^(i)|^2
  std::vector<double> k;      // Ek_i = E|k^(i)|^2 of what is quantized; q and k may be empty but for mixing
};

/// What is quantized, hence whose energies count. published: keys as they are, score (Eq + Ek) / 2. balanced:
/// keys less their mean, scaled by (Eq / Ekc)^(1/4), score Eq Ekc; query and key energies are then the same.
enum class KeyForm { published, balanced };

/// Energies of one KV head over the chunks of the statistics, chunk c counted times[c] times; times
/// (n_chunks), or empty: each once.
HeadEnergy head_energy(const Stats& stats, int layer, int kv_head, KeyForm form,
                       std::span<const int> times = {});

}  // namespace blockgtq
