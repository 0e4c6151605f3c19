#pragma once
#include <cstdint>

namespace blockgtq {

/// numpy.random.default_rng(seed), bit for bit: SeedSequence, PCG64 XSL-RR 128/64, and standard_normal by the
/// 256-layer ziggurat. Source: numpy/random/src (BSD-3-Clause), checked against known answers.
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
