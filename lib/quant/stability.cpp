#include "quant/stability.h"

#include "base/error.h"
#include "quant/random.h"

namespace blockgtq {

namespace {

// The bits (L, H, B), where chunk c counts times[c] times.
std::vector<uint8_t> bits_of(const Stats& stats, KeyForm form, const ShareSpec& spec, double bytes,
                             std::span<const int> times) {
  std::vector<HeadEnergy> heads;
  for (int l = 0; l < stats.shape.n_layers; ++l)
    for (int h = 0; h < stats.shape.n_kv_heads; ++h) heads.push_back(head_energy(stats, l, h, form, times));
  return allocate_heads(heads, stats.shape.n_kv_heads, spec, {{bytes}})[0];
}

}  // namespace

Stability measure_stability(const Stats& stats, KeyForm form, const ShareSpec& given, double bytes,
                            int n_resamples, uint64_t seed) {
  check(n_resamples >= 0, "measure_stability: resamples below 0");
  const ShareSpec spec = spec_of(given, form, stats);
  const size_t n_chunks = size_t(stats.n_chunks()), n_layers = size_t(stats.shape.n_layers);
  Stability stability;
  if (n_chunks >= 2) {
    std::vector<int> first(n_chunks), second(n_chunks);
    for (size_t c = 0; c < n_chunks; ++c) (c < n_chunks / 2 ? first : second)[c] = 1;
    const std::vector<uint8_t> a = bits_of(stats, form, spec, bytes, first),
                               b = bits_of(stats, form, spec, bytes, second);
    const size_t per_layer = a.size() / n_layers;
    for (size_t l = 0; l < n_layers; ++l) {
      size_t differ = 0;
      for (size_t i = l * per_layer; i < (l + 1) * per_layer; ++i) differ += a[i] != b[i];
      stability.changed.push_back(double(differ) / double(per_layer));
    }
  }
  if (n_resamples == 0) return stability;

  const std::vector<uint8_t> whole = bits_of(stats, form, spec, bytes, {});
  std::vector<int> count(whole.size());
  Random random(seed);
  for (int r = 0; r < n_resamples; ++r) {
    std::vector<int> times(n_chunks);
    for (size_t c = 0; c < n_chunks; ++c) ++times[random.next_u64() % n_chunks];
    const std::vector<uint8_t> bits = bits_of(stats, form, spec, bytes, times);
    for (size_t i = 0; i < bits.size(); ++i) count[i] += bits[i] == whole[i];
  }
  for (const int c : count) stability.same.push_back(double(c) / n_resamples);
  return stability;
}

}  // namespace blockgtq
