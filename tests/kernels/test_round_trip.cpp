#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "device_arrays.h"
#include "eval/cuda_requantize.h"
#include "kernels/codes/round_trip.h"
#include "quant/block_gtq.h"
#include "quant/kivi.h"
#include "quant/linear_quantizer.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// A code of groups of these widths over dim coordinates, its matrices random.
LinearCode random_code(int dim, const std::vector<int>& widths, bool one_norm, int n_centres,
                       Random& random) {
  LinearCode code;
  code.dim = dim;
  code.one_norm = one_norm;
  int left = dim;
  for (size_t g = 0; g < widths.size(); ++g) {
    LinearCode::Group group;
    group.d = g + 1 == widths.size() ? left : std::max(1, dim / int(widths.size()) - 1);
    left -= group.d;
    group.bits = widths[g];
    group.centroids = random.normal(1 << group.bits, float(1 / std::sqrt(double(one_norm ? dim : group.d))));
    std::sort(group.centroids.begin(), group.centroids.end());
    code.groups.push_back(group);
  }
  const float scale = float(1 / std::sqrt(double(dim)));
  code.forward = random.normal(int64_t(dim) * dim, scale);
  code.backward = random.normal(int64_t(dim) * dim, scale);
  if (n_centres) {
    code.mean = random.normal(dim, 3);
    code.centres = random.normal(int64_t(n_centres) * dim, 2);
  }
  return code;
}

/// Of a cache with one layer and these quantizers of keys.
QuantizedCache cache_of(HeadQuantizers heads) {
  QuantizedCache cache;
  cache.keys.push_back(std::move(heads));
  return cache;
}

struct Compared {
  int64_t different = 0, vectors = 0;  // by more than float32's noise
  double error_ratio = 0;              // sum of squared errors, of the device's by the host's
  int64_t clipped = 0, host_clipped = 0;
};

/// Windows of `chunk` tokens of one head each under caches[i], on both; what is not coded has to stay.
Compared compare(const std::vector<const QuantizedCache*>& caches, int64_t n_tokens, int64_t chunk,
                 int64_t width, int dim, float scale, Random& random, const cuda::Stream& stream) {
  const std::vector<float> x = random.normal(n_tokens * width, scale);
  std::vector<float> host = x;
  Compared result;
  result.host_clipped = requantize({0, n_tokens, chunk, caches, host.data(), nullptr});
  const cuda::Buffer there = to_device(x, stream);
  CudaRequantizer device;
  result.clipped =
      device.requantize({0, n_tokens, chunk, caches, there.as<float>(), nullptr}, stream.handle());
  const std::vector<float> got = to_host<float>(there.as(), n_tokens * width, stream);
  double errors = 0, host_errors = 0;
  for (size_t i = 0; i < got.size(); i += size_t(dim)) {
    double norm = 0, off = 0;
    for (size_t j = i; j < i + size_t(dim); ++j) {
      norm += double(host[j]) * host[j];
      off += (double(got[j]) - host[j]) * (double(got[j]) - host[j]);
      errors += (double(got[j]) - x[j]) * (double(got[j]) - x[j]);
      host_errors += (double(host[j]) - x[j]) * (double(host[j]) - x[j]);
    }
    ++result.vectors;
    result.different += !(off <= 1e-10 * norm);
  }
  result.error_ratio = errors / host_errors;
  return result;
}

void check_same(const Compared& c) {
  INFO(c.different << " of " << c.vectors << " differ, errors' ratio " << c.error_ratio);
  CHECK(double(c.different) <= 2e-3 * double(c.vectors));  // two codes equally near
  CHECK(std::abs(c.error_ratio - 1) < 1e-3);
  CHECK(c.clipped == c.host_clipped);
}

}  // namespace

TEST_CASE("linear codes come back from the device as from the host") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int dim : {16, 64, 80, 96, 128, 160, 256})
    for (const bool one_norm : {false, true})
      for (const std::vector<int>& widths : {std::vector{3}, {1, 2, 4, 8}, {2, 3}})
        for (const int n_centres : {0, 4, 64}) {
          INFO("D " << dim << ", one norm " << one_norm << ", " << widths.size() << " groups, centres "
                    << n_centres);
          const bool trellis = random.below(2) && dim >= 64;
          LinearCode code = random_code(dim, widths, one_norm, n_centres, random);
          const LinearCode plain = UniformTqMse(dim, 2).linear_code().value();
          if (trellis) code = with_trellis(std::move(code));
          if (random.below(2)) {
            std::vector<float> weight = random.normal(dim);
            for (float& w : weight) w *= w;
            code = with_fallback(std::move(code), plain, std::move(weight));
          }
          HeadQuantizers heads;
          heads.push_back(std::make_unique<LinearQuantizer>(code));
          const QuantizedCache cache = cache_of(std::move(heads));
          check_same(compare({&cache, &cache}, 1037, 600, dim, dim, 2, random, stream));
        }
}

TEST_CASE("trellis codes of groups of every width, which are one stream") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int dim : {32, 64, 128, 256})
    for (const bool one_norm : {false, true})
      for (const std::vector<int>& widths : {std::vector{1, 2, 3, 4, 5, 6}, {2, 5}, {3, 4, 7, 8}}) {
        INFO("D " << dim << ", one norm " << one_norm << ", " << widths.size() << " groups");
        HeadQuantizers heads;
        heads.push_back(
            std::make_unique<LinearQuantizer>(with_trellis(random_code(dim, widths, one_norm, 0, random))));
        const QuantizedCache cache = cache_of(std::move(heads));
        check_same(compare({&cache}, 517, 517, dim, dim, 1, random, stream));
      }
}

TEST_CASE("trellis codes of every width, and where vectors are outliers") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int dim : {64, 128, 256})
    for (int bits = 1; bits <= 5; ++bits) {
      INFO("D " << dim << ", " << bits << " bits");
      HeadQuantizers heads;
      LinearCode code = with_trellis(UniformTqMse(dim, bits).linear_code().value());
      LinearCode centred = code;
      centred.mean = random.normal(dim);
      heads.push_back(std::make_unique<LinearQuantizer>(code));
      heads.push_back(std::make_unique<LinearQuantizer>(with_fallback(centred, code, {})));
      const QuantizedCache cache = cache_of(std::move(heads));
      check_same(compare({&cache}, 517, 517, 2 * dim, dim, 0.5f, random, stream));
    }
}

TEST_CASE(
    "on a device caches side by side, exact positions, codes that only the host knows, and long norms") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  constexpr int kDim = 64;
  auto uniform = [=](int bits) {
    HeadQuantizers heads;
    for (int h = 0; h < 3; ++h) heads.push_back(std::make_unique<UniformTqMse>(kDim, bits, 42 + h));
    return heads;
  };
  HeadQuantizers kivi;
  for (int h = 0; h < 3; ++h) kivi.push_back(std::make_unique<Kivi>(kDim, 3));
  QuantizedCache two = cache_of(uniform(2)), three = cache_of(uniform(3)), host = cache_of(std::move(kivi));
  const QuantizedCache exact;
  three.exact = {4, 0};
  check_same(
      compare({&two, &exact, &three, &host, &two}, 4 * 300 + 3, 300, 3 * kDim, kDim, 1, random, stream));
  three.exact = {400, 0};  // all of a window
  check_same(compare({&three, &host}, 600, 300, 3 * kDim, kDim, 1, random, stream));
  const Compared clipped = compare({&two}, 300, 300, 3 * kDim, kDim, 2e4f, random, stream);
  CHECK(clipped.clipped > 800);
  check_same(clipped);

  LinearCode code = UniformTqMse(kDim, 2).linear_code().value();
  for (float& f : code.forward) f *= 1e37f;
  HeadQuantizers heads = uniform(2);
  heads[1] = std::make_unique<LinearQuantizer>(code);
  const QuantizedCache endless = cache_of(std::move(heads));
  const cuda::Buffer x = to_device(random.normal(100 * 3 * kDim, 1e3f), stream);
  CudaRequantizer device;
  try {
    device.requantize({0, 100, 100, {&endless}, x.as<float>(), nullptr}, stream.handle());
    FAIL("an infinite norm passed");
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    CHECK(std::string(e.what()).find("layer 0: KV head 1: ") == 0);
  }
}
