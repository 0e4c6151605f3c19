#pragma once
#include <cstdint>

#include "capi/calls.h"

namespace blockgtq::capi {

/// Row (sequence, token) of an array in host memory: its heads side by side, (heads, D), as float32.
void load_row(const Rows& from, int64_t sequence, int64_t token, int dim, float* to);
/// The inverse: rounded to nearest even, in fp16 clipped to 65504.
void store_row(const float* from, const Rows& to, int64_t sequence, int64_t token, int dim);

/// x as fp16 pages hold it: rounded to nearest even, clipped to 65504.
float as_half(float x);

}  // namespace blockgtq::capi
