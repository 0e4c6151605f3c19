#pragma once
#include <vector>

namespace blockgtq {

/// What a cache stores of a vector x (D): z = forward (x - mean), cut into groups of neighbouring
/// coordinates; per group (or once for all of z) an fp16 norm r = |z|, and of each z_j / r the nearest
/// centroid c of the group's codebook. Back: x^ = mean + backward z^, z^ = r c / |c| (norm correction over
/// the same coordinates as the norm).
struct LinearCode {
  struct Group {
    int d = 0, bits = 0;
    std::vector<float>
        centroids;  // (2^bits) ascending, of a coordinate of a unit vector (all of z: one_norm)
  };
  int dim = 0;               // D
  bool before_rope = false;  // keys: mixes coordinates that RoPE turns by different angles, so that a cache
                             // has to store keys before RoPE and turn them when it reads
  bool one_norm = false;        // one norm of the whole z instead of one per group
  std::vector<Group> groups;    // in stored order, ascending bits; their d add up to n <= D
  std::vector<float> mean;      // (D) before RoPE for keys; empty: zero
  std::vector<float> forward;   // (n, D) row-major: permutation, balance, 1/rms, rotation in one matrix
  std::vector<float> backward;  // (D, n)

  int n_coords() const {  // n: coordinates of 0 bits are not stored
    int n = 0;
    for (const Group& g : groups) n += g.d;
    return n;
  }
};

}  // namespace blockgtq
