#include "device_arrays.h"
#include "kernels/forward/nonfinite.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

int64_t find(const std::vector<float>& x, int64_t shift, const cuda::Stream& stream) {
  const cuda::Buffer data = to_device(x, stream), word(sizeof(uint64_t));
  cuda::fill_zero(word.as(), sizeof(uint64_t), stream);
  cuda::find_nonfinite(data.as<float>() + shift, int64_t(x.size()) - shift, word.as<uint64_t>(), stream);
  return cuda::first_nonfinite(to_host<uint64_t>(word.as(), 1, stream)[0]);
}

}  // namespace

TEST_CASE("the lowest non-finite value is found wherever it is") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t n : {1, 2, 5, 257, 100'003, 3'000'001}) {
    for (const int64_t shift : {0, 1}) {
      if (n <= shift) continue;
      INFO("n " << n << ", shift " << shift);
      std::vector<float> x = random.normal(n);
      x[size_t(n / 2)] = 3e38f;  // large, and finite
      CHECK(find(x, shift, stream) == -1);
      x[size_t(n - 1)] = NAN;
      CHECK(find(x, shift, stream) == n - 1 - shift);
      const int64_t at = shift + random.below(n - shift);
      x[size_t(at)] = random.below(2) ? INFINITY : -INFINITY;
      CHECK(find(x, shift, stream) == at - shift);
      x[size_t(shift)] = -NAN;
      CHECK(find(x, shift, stream) == 0);
    }
  }
}
