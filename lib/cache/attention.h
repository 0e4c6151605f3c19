#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// Keys (after RoPE) and values of T consecutive positions, in double precision.
struct PlainPositions {
  int n_kv_heads = 0, dim = 0;
  std::vector<double> k, v;  // (T, H, D)

  void append(const PlainPositions& more) {
    k.insert(k.end(), more.k.begin(), more.k.end());
    v.insert(v.end(), more.v.begin(), more.v.end());
  }
};

/// Exact attention: softmax(scale q K^T) V. The queries are those of the last n_queries positions (decoding:
/// 1); each sees its own position and those before it. q (n_queries, Hq, D), out (n_queries, Hq, D); zeros
/// where there is no position.
void attend(const PlainPositions& x, int n_heads, int64_t n_queries, const float* q, double scale,
            double* out);

}  // namespace blockgtq
