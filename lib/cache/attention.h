#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// Keys and values of some positions in double precision.
struct PlainPositions {
  int n_kv_heads = 0, dim = 0;
  std::vector<double> k, v;  // (T, H, D)

  void append(const PlainPositions& more) {
    k.insert(k.end(), more.k.begin(), more.k.end());
    v.insert(v.end(), more.v.begin(), more.v.end());
  }
};

/// softmax(scale q K^T) V of one new query per head, in any order of the positions. q (Hq, D), out (Hq, D);
/// zeros where there is no position.
void decode_attention(const PlainPositions& x, int n_heads, const float* q, double scale, double* out);

}  // namespace blockgtq
