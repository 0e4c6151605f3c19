#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cache/exact_page.h"
#include "cache/packed_cache.h"

namespace blockgtq {

/// What the attention and encoding kernels are timed on: many layers' caches of random codes in device
/// memory, more than any cache on the chip holds.
struct CacheBench {
  int layers = 36, heads = 16, kv_heads = 2, head_dim = 128, batch = 1;
  int64_t context = 4096;
  int key_bits = 3, value_bits = 3;
  int centres = 0;  // of values; 0: none
  std::string keys =
      "uniform";      // or "mixed" (a greedy allocation, one norm per key), "published" (the same, a norm per
                      // group), "centred" (mixed, and the mean of keys and values apart), "trellis" (uniform,
                      // keys and values in trellis codes), "fp16" (not packed)
  double spread = 4;  // log2 of how far the blocks' energies lie apart: widths from -1 to +1 of the average
  int group_blocks = 1;  // blocks of a width are a multiple of this; 8: whole slabs
  ExactWindow window;    // kept in fp16 beside packed pages
  int repeat = 20;
};

struct CacheTime {
  double microseconds = 0;        // per layer, median
  double bytes = 0;               // read per layer
  double bytes_per_position = 0;  // of one KV head, key and value, everything counted
};

/// The quantizers of a layer: keys by random energies, other ones for another seed.
PackedSpec bench_spec(const CacheBench& bench, uint64_t seed);

/// Bytes per second of a device-to-device copy, read and written ones counted.
double copy_rate(int repeat);

/// One decoding step per layer inside a CUDA graph.
CacheTime time_decode(const CacheBench& bench);

/// Attention of a chunk of new tokens per sequence behind `context` packed positions.
struct PrefillTime {
  double microseconds = 0;         // per layer, median
  double expand_microseconds = 0;  // of these: to make keys and values of codes
  double bytes_per_position = 0;   // as of CacheTime
};
PrefillTime time_prefill(const CacheBench& bench, int64_t chunk);

/// Writing `tokens` new positions of one sequence, keys and values of one layer. values: both, else keys
/// only.
CacheTime time_encode(const CacheBench& bench, int64_t tokens, bool values);

}  // namespace blockgtq
