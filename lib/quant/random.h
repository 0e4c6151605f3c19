#pragma once
#include <cstdint>

namespace blockgtq {

/// numpy.random.default_rng(seed): SeedSequence, PCG64 XSL-RR 128/64, standard_normal by the 256-layer
/// ziggurat; the same stream bit for bit. (numpy/random/src, BSD-3-Clause, as the known answers define it.)
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next_u64();
  double next_double();  // [0, 1), 53 bits
  double standard_normal();

 private:
  unsigned __int128 state_, increment_;
};

}  // namespace blockgtq
