#include "model/rotary.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/share.h"

namespace blockgtq {

RotaryTable rotary_table(const Config& config, int64_t longest_chunk, bool local) {
  const RopeFrequencies f =
      rope_frequencies(local ? *config.local_rope : config.rope, config.max_position, longest_chunk);
  RotaryTable out;
  out.layout = config.blocks();
  out.length = longest_chunk;
  const size_t n = size_t(out.layout.n_rotary());
  check(f.inv_freq.size() == n, "rotary_table: one frequency per rotary block");
  out.cos.resize(size_t(longest_chunk) * n);
  out.sin.resize(size_t(longest_chunk) * n);
  share(size_t(longest_chunk), 40.0 * double(longest_chunk) * double(n), [&](size_t t) {
    for (size_t i = 0; i < n; ++i) {
      const double angle = double(t) * f.inv_freq[i];
      out.cos[t * n + i] = float(std::cos(angle) * f.attention_factor);
      out.sin[t * n + i] = float(std::sin(angle) * f.attention_factor);
    }
  });
  return out;
}

void rotate(const RotaryTable& table, float* x, int64_t n, int64_t stride, int64_t heads, int64_t head_stride,
            int64_t chunk, int64_t first_position) {
  constexpr int64_t kTokens = 64;
  check(first_position + std::min(n, chunk) <= table.length, "rotate: a chunk longer than the table");
  const int blocks = table.layout.n_rotary();
  const bool half = table.layout.pairing == Pairing::half;
  // Coordinates of block i: i and i + apart (half), or 2i and 2i + 1.
  const int64_t step = half ? 1 : 2, apart = half ? blocks : 1;
  share(size_t((n + kTokens - 1) / kTokens), double(n * heads * blocks), [&](size_t b) {
    for (int64_t t = int64_t(b) * kTokens; t < std::min(n, (int64_t(b) + 1) * kTokens); ++t) {
      const float* cos = table.cos.data() + (first_position + t % chunk) * blocks;
      const float* sin = table.sin.data() + (first_position + t % chunk) * blocks;
      for (int64_t h = 0; h < heads; ++h) {
        float* head = x + t * stride + h * head_stride;
        for (int64_t i = 0; i < blocks; ++i) {
          float& first = head[i * step];
          float& second = head[i * step + apart];
          const float a = first, c = second;
          first = a * cos[i] - c * sin[i];
          second = c * cos[i] + a * sin[i];
        }
      }
    }
  });
}

}  // namespace blockgtq
