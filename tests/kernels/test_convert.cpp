#include "device_arrays.h"
#include "kernels/forward/convert.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("conversion rounds as the host does, bit for bit, at any size and alignment") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const cuda::FloatType from : kFloatTypes) {
    for (const cuda::FloatType to : kFloatTypes) {
      for (const int64_t n : {1, 3, 4, 1023, 4097, 1 << 20}) {
        for (const int64_t shift : {0, 1}) {  // elements off the alignment of a pack
          INFO("from " << int(from) << " to " << int(to) << ", n " << n << ", shift " << shift);
          const std::vector<float> values = rounded(random.normal(n, 100), from);
          std::vector<unsigned char> bytes(size_t(shift * cuda::bytes_of(from)));
          const std::vector<unsigned char> encoded = encode(values, from);
          bytes.insert(bytes.end(), encoded.begin(), encoded.end());
          const cuda::Buffer in = to_device(bytes, stream), out = poisoned((n + shift + 1) * 4, stream);
          cuda::convert(in.as<std::byte>() + shift * cuda::bytes_of(from), from,
                        out.as<std::byte>() + shift * cuda::bytes_of(to), to, n, stream);
          const auto got = to_host<unsigned char>(out.as(), (n + shift + 1) * cuda::bytes_of(to), stream);
          const size_t first = size_t(shift * cuda::bytes_of(to)), size = size_t(n * cuda::bytes_of(to));
          REQUIRE(std::vector(got.begin() + long(first), got.begin() + long(first + size)) ==
                  encode(values, to));
          for (size_t i = 0; i < got.size(); ++i)
            if (i < first || i >= first + size) REQUIRE(got[i] == 0xff);  // nothing before or behind
        }
      }
    }
  }
}

TEST_CASE("conversion keeps what is special") {
  if (!has_device()) return;
  cuda::Stream stream;
  const std::vector<float> values = {0, -0.0f, INFINITY, -INFINITY, 65504, 65520, 1e-8f, 0x1p-24f};
  const cuda::Buffer in = to_device(values, stream), out = poisoned(16, stream);
  cuda::convert(in.as(), cuda::FloatType::f32, out.as(), cuda::FloatType::f16, 8, stream);
  CHECK(to_host<unsigned char>(out.as(), 16, stream) == encode(values, cuda::FloatType::f16));
}
