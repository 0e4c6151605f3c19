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

/// softmax(scale q K^T) V of the queries of the last T positions (decoding: T = 1), each of which sees its
/// own position and those before. q (T, Hq, D), out (T, Hq, D); zeros where there is no position.
void attend(const PlainPositions& x, int n_heads, int64_t n_queries, const float* q, double scale,
            double* out);

}  // namespace blockgtq
