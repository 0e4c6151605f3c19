#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "eval/pack.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// Bytes of n positions of one head: the codes of positions that are not exact, and 2 per number of the
/// others.
double held_bytes(const Quantizer& quantizer, const ExactWindow& exact, int64_t n);

/// One way to hold keys and values: the quantizer of every layer and KV head. A side without quantizers is
/// exact.
struct QuantizedCache {
  std::vector<HeadQuantizers> keys, values;  // (L, H), or empty
  ExactWindow exact;                         // in every window of text

  /// Bytes per token of all layers and heads, in a window of n tokens. 0 where the side is exact.
  double key_bytes(int64_t n) const { return bytes(keys, n); }
  double value_bytes(int64_t n) const { return bytes(values, n); }

 private:
  double bytes(const std::vector<HeadQuantizers>& layers, int64_t n) const;
};

/// One layer's keys and values over windows of `chunk` tokens (the last may be shorter). Each window is held
/// by a cache of its own.
struct CachedLayer {
  int layer = 0;
  int64_t n_tokens = 0, chunk = 0;
  std::vector<const QuantizedCache*> caches;  // (n_windows)
  float* k = nullptr;                         // (T, H, D)
  float* v = nullptr;                         // (T, H, Dv); null where no cache quantizes values
};

/// Consecutive tokens, all heads, that a cache holds as codes.
struct CodedTokens {
  const HeadQuantizers* heads = nullptr;
  float* x = nullptr;  // (n, H, D) keys or values
  int64_t n = 0;

  int64_t width() const { return int64_t(heads->size()) * heads->at(0)->dim(); }  // H * D
};

/// What of a layer is coded, window by window: keys, then values. Left out are the sink, and the positions
/// that are recent at the end of the window, which no query sees coded.
std::vector<CodedTokens> coded_tokens(const CachedLayer& layer);

/// Encodes and decodes every coded key and value in place. Keys are those before RoPE. The result does not
/// depend on the number of threads. Returns how many fp16 norms and scales were clipped to 65504.
/// Exit::nonfinite names layer and KV head.
int64_t requantize(int layer, std::span<const CodedTokens> coded);
int64_t requantize(const CachedLayer& layer);

}  // namespace blockgtq
