#pragma once
#include <memory>
#include <vector>

namespace blockgtq {

/// What a cache stores of a vector x (D): z = forward (x - mean - centre), cut into groups of neighbouring
/// coordinates; per group (or once for all of z) an fp16 norm r = |z|, and of each z_j / r the nearest
/// centroid c of the group's codebook. Back: x^ = mean + centre + backward z^, z^ = r c / |c| (norm
/// correction over the same coordinates as the norm).
struct LinearCode {
  struct Group {
    int d = 0, bits = 0;
    std::vector<float>
        centroids;         // (2^bits) ascending, of a coordinate of a unit vector (all of z: one_norm)
    bool trellis = false;  // centroids (kTrellisStates), looked up by windows of the group's stream

    /// What lies halfway between neighbouring centroids (2^bits - 1); empty for a trellis.
    std::vector<float> boundaries() const {
      std::vector<float> all;
      for (size_t i = 0; !trellis && i + 1 < centroids.size(); ++i)
        all.push_back(float(0.5 * (double(centroids[i]) + centroids[i + 1])));
      return all;
    }
  };
  /// Coordinates of z that share a norm.
  struct Span {
    size_t first, d;
  };
  int dim = 0;                 // D
  bool before_rope = false;    // keys: mixes coordinates that RoPE turns by different angles, so that a cache
                               // has to store keys before RoPE and turn them when it reads
  bool one_norm = false;       // one norm of the whole z instead of one per group
  std::vector<Group> groups;   // in stored order, ascending bits; their d add up to n <= D
  std::vector<float> mean;     // (D) before RoPE for keys; empty: zero
  std::vector<float> centres;  // (M, D), M a power of two from 2: of x - mean, the one with the shortest z is
                               // taken; log2 M bits. Empty: zero, no bits
  std::vector<float> forward;  // (n, D) row-major: permutation, balance, 1/rms, rotation in one matrix
  std::vector<float> backward;  // (D, n)

  /// Where there is a mean and neither centres nor a fallback: a vector whose z is shorter with the mean left
  /// in, |forward x| < |forward (x - mean)|, is coded that way, and the sign bit of its first norm is set.
  bool mean_flag = false;

  /// For a vector that this code errs more on: mean and centres were fitted to others. The sign bit of the
  /// first norm says which of the two it is. Null: none; it takes no more bytes, and has no fallback itself.
  std::shared_ptr<const LinearCode> fallback;
  std::vector<float>
      weight;  // (D) how the square of a coordinate's error counts in that choice; empty: alike

  int n_coords() const {  // n: coordinates of 0 bits are not stored
    int n = 0;
    for (const Group& g : groups) n += g.d;
    return n;
  }
  /// In the order of the norms.
  std::vector<Span> spans() const {
    std::vector<Span> all;
    size_t first = 0;
    for (const Group& g : groups) {
      if (all.empty() || !one_norm) all.push_back({first, 0});
      all.back().d += size_t(g.d);
      first += size_t(g.d);
    }
    return all;
  }
  int n_centres() const { return dim > 0 ? int(centres.size()) / dim : 0; }  // M; 0: none
};

/// The same with trellis codes in place of scalar ones, where a group's stream is long enough and its bits
/// few enough for them; in the fallback too.
LinearCode with_trellis(LinearCode code);

/// The same with a fallback for what `code` was not fitted to, chosen by the weighted error.
LinearCode with_fallback(LinearCode code, LinearCode fallback, std::vector<float> weight);

}  // namespace blockgtq
