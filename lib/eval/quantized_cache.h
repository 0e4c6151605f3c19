#pragma once
#include <cstdint>
#include <vector>

#include "eval/pack.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// Bytes of n positions of one head: the codes of those that are not exact, and 2 per number of the others.
double held_bytes(const Quantizer& quantizer, const ExactWindow& exact, int64_t n);

/// One way to hold keys and values: the quantizer of every layer and KV head. Empty: held exactly.
struct QuantizedCache {
  std::vector<HeadQuantizers> keys, values;  // (L) of (H)
  ExactWindow exact;                         // of every window of text

  /// Bytes per token of all layers and heads, in a window of n tokens; 0 when held exactly.
  double key_bytes(int64_t n) const { return bytes(keys, n); }
  double value_bytes(int64_t n) const { return bytes(values, n); }

 private:
  double bytes(const std::vector<HeadQuantizers>& layers, int64_t n) const;
};

/// One layer's keys and values over windows of `chunk` tokens (the last may be shorter), each of which is
/// held by a cache of its own.
struct CachedLayer {
  int layer = 0;
  int64_t n_tokens = 0, chunk = 0;
  std::vector<const QuantizedCache*> caches;  // (n_windows)
  float* k = nullptr;                         // (T, H, D)
  float* v = nullptr;                         // (T, H, Dv); null where no cache quantizes values
};

/// Puts in the place of every key and value what its cache gives back: encode, then decode; those of the sink
/// stay, and so do those that are recent to the end, which no query sees coded. Keys are those before RoPE.
/// The result does not depend on the number of threads. Returns how many fp16 norms and scales were cut to
/// 65504.
int64_t requantize(const CachedLayer& layer);

/// The same for k and v in device memory that are in order on `stream` (a CUDA stream): the codes are made on
/// the host. k_width, v_width: floats per token.
int64_t cuda_requantize(CachedLayer layer, int64_t k_width, int64_t v_width, void* stream);

}  // namespace blockgtq
