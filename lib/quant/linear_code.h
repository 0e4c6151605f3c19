#pragma once
#include <memory>
#include <vector>

namespace blockgtq {

/// What a cache stores of a vector x (D). z = forward (x - mean - centre) is cut into groups of neighbouring
/// coordinates. Per group (or once for all of z) there is an fp16 norm r = |z|. Of each z_j / r the code
/// holds the index of the nearest centroid c of the group's codebook. Decoded: x^ = mean + centre + backward
/// z^, z^ = r c / |c|. This norm correction is over the same coordinates as the norm.
struct LinearCode {
  struct Group {
    int d = 0, bits = 0;
    /// (2^bits) ascending, for a coordinate of a unit vector: of the group, or of all of z with one_norm. For
    /// a trellis (kTrellisStates), looked up by windows of the stream, which all trellis groups form
    /// together. They come first.
    std::vector<float> centroids;
    bool trellis = false;

    /// The midpoints of neighbouring centroids (2^bits - 1); empty for a trellis.
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
  int dim = 0;  // D
  /// The transform mixes coordinates of keys that RoPE rotates by different angles. So a cache has to store
  /// keys before RoPE, and to rotate them when it reads them.
  bool before_rope = false;
  bool one_norm = false;      // one norm of the whole z instead of one per group
  std::vector<Group> groups;  // in stored order, ascending bits; their d add up to n <= D
  std::vector<float> mean;    // (D) before RoPE for keys; empty: zero
  /// (M, D) offsets from the mean, M a power of two from 2. The one that makes z shortest is subtracted; its
  /// number takes log2 M bits. Empty: zero, no bits.
  std::vector<float> centres;
  std::vector<float> forward;   // (n, D) row-major: permutation, balance, 1/rms and rotation in one matrix
  std::vector<float> backward;  // (D, n)

  /// A vector whose z is shorter with mean and centre left in, |forward x| < |forward (x - mean - centre)|,
  /// is coded that way, and the sign bit of its first norm is set. Only where there is a mean or centres, and
  /// no fallback.
  bool mean_flag = false;

  /// The code for a vector on which this one errs more, because mean and centres were fitted to others. The
  /// sign bit of the first norm says which of the two it is. A fallback takes no more bytes and has no
  /// fallback itself. Null: none.
  std::shared_ptr<const LinearCode> fallback;
  /// (D) weights of the squared errors in that choice; empty: all alike.
  std::vector<float> weight;

  int n_coords() const {  // n: coordinates of 0 bits are not stored
    int n = 0;
    for (const Group& g : groups) n += g.d;
    return n;
  }
  /// One per norm, in stored order.
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

/// `code` with trellis codes in place of scalar ones, in every group that has few enough bits for them, if
/// these groups together are long enough; in the fallback too.
LinearCode with_trellis(LinearCode code);

/// `code` with a fallback for vectors that it was not fitted to. weight (D), or empty.
LinearCode with_fallback(LinearCode code, LinearCode fallback, std::vector<float> weight);

}  // namespace blockgtq
