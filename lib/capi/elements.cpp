#include "capi/elements.h"

#include <algorithm>

#include "base/float16.h"

namespace blockgtq::capi {
namespace {

uint16_t clipped_half(float x) {
  return to_half(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);  // a NaN stays one
}

/// Calls f(head, element of its first coordinate).
template <class F>
void for_heads(const Rows& rows, int64_t sequence, int64_t token, const F& f) {
  for (int head = 0; head < rows.heads; ++head)
    f(head, sequence * rows.sequence + token * rows.token + head * rows.head);
}

}  // namespace

float as_half(float x) {
  return from_half(clipped_half(x));
}

void load_row(const Rows& from, int64_t sequence, int64_t token, int dim, float* to) {
  for_heads(from, sequence, token, [&](int head, int64_t at) {
    float* const out = to + int64_t(head) * dim;
    const auto* const bits = static_cast<const uint16_t*>(from.data) + at;
    if (from.type == BLOCKGTQ_F32)
      std::copy_n(static_cast<const float*>(from.data) + at, dim, out);
    else if (from.type == BLOCKGTQ_BF16)
      from_bf16(bits, size_t(dim), out);
    else
      from_half(bits, size_t(dim), out);
  });
}

void store_row(const float* from, const Rows& to, int64_t sequence, int64_t token, int dim) {
  for_heads(to, sequence, token, [&](int head, int64_t at) {
    const float* const x = from + int64_t(head) * dim;
    if (to.type == BLOCKGTQ_F32)
      std::copy_n(x, dim, static_cast<float*>(to.data) + at);
    else
      std::transform(x, x + dim, static_cast<uint16_t*>(to.data) + at,
                     [&](float y) { return to.type == BLOCKGTQ_BF16 ? to_bf16(y) : clipped_half(y); });
  });
}

}  // namespace blockgtq::capi
