#pragma once

namespace blockgtq::cuda {

struct Range {
  int first, last;
};

/// Part `split` of `splits` that differ by one item at most, of items [first, first + n).
__device__ inline Range items_of(int first, int n, int split, int splits) {
  const int each = int(unsigned(n) / unsigned(splits)), more = n - each * splits;
  first += split * each + min(split, more);
  return {first, first + each + (split < more)};
}

}  // namespace blockgtq::cuda
