#pragma once

namespace blockgtq::cuda {

struct Range {
  int first, last;
};

/// Part `split` of the items [first, first + n), which are cut into `splits` parts. The sizes of
/// parts differ by one at most.
__device__ inline Range items_of(int first, int n, int split, int splits) {
  const int each = int(unsigned(n) / unsigned(splits)), more = n - each * splits;
  first += split * each + min(split, more);
  return {first, first + each + (split < more)};
}

}  // namespace blockgtq::cuda
