#include <cstring>

#include "device_arrays.h"
#include "hf/gguf_blocks.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/dequantize.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Pair {
  DType dtype;
  cuda::BlockType type;
};

constexpr Pair kTypes[] = {{DType::q8_0, cuda::BlockType::q8_0},     {DType::q4_0, cuda::BlockType::q4_0},
                           {DType::q4_1, cuda::BlockType::q4_1},     {DType::q5_0, cuda::BlockType::q5_0},
                           {DType::q5_1, cuda::BlockType::q5_1},     {DType::q2_k, cuda::BlockType::q2_k},
                           {DType::q3_k, cuda::BlockType::q3_k},     {DType::q4_k, cuda::BlockType::q4_k},
                           {DType::q5_k, cuda::BlockType::q5_k},     {DType::q6_k, cuda::BlockType::q6_k},
                           {DType::iq4_nl, cuda::BlockType::iq4_nl}, {DType::iq4_xs, cuda::BlockType::iq4_xs},
                           {DType::mxfp4, cuda::BlockType::mxfp4}};

/// Bit for bit, but that one NaN is as good as another.
int64_t different(const std::vector<float>& a, const std::vector<float>& b) {
  int64_t n = 0;
  for (size_t i = 0; i < a.size(); ++i)
    n += std::memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]));
  return n;
}

}  // namespace

TEST_CASE("numbers of quantized blocks are the CPU's, bit for bit") {
  if (!has_device()) return;
  const cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const Pair& pair : kTypes) {
    const BlockSize size = block_size(pair.dtype);
    for (const int64_t n_blocks : {1, 7, 4099}) {
      for (const int64_t shift : {0, 1}) {  // bytes off any alignment
        INFO(name(pair.dtype) << ", " << n_blocks << " blocks, shift " << shift);
        std::vector<uint8_t> bytes(size_t(shift + n_blocks * size.bytes));
        for (uint8_t& b : bytes) b = uint8_t(random.below(256));
        const int64_t n = n_blocks * size.elements;
        std::vector<float> want(static_cast<size_t>(n));
        dequantize(pair.dtype, reinterpret_cast<const std::byte*>(bytes.data() + shift), n_blocks,
                   want.data());
        const cuda::Buffer in = to_device(bytes, stream);
        for (const cuda::FloatType to : kFloatTypes) {
          const cuda::Buffer out = poisoned((n + 1) * 4, stream);
          cuda::dequantize(pair.type, in.as<uint8_t>() + shift, n_blocks, out.as(), to, stream);
          if (to == cuda::FloatType::f32) {
            const std::vector<float> got = to_host<float>(out.as(), n + 1, stream);
            CHECK(std::isnan(got.back()));  // nothing behind
            CHECK(different({got.begin(), got.end() - 1}, want) == 0);
          } else {
            const cuda::Buffer exact = to_device(want, stream), rounded = poisoned(n * 4, stream);
            cuda::convert(exact.as(), cuda::FloatType::f32, rounded.as(), to, n, stream);
            CHECK(to_host<uint16_t>(out.as(), n, stream) == to_host<uint16_t>(rounded.as(), n, stream));
          }
        }
      }
    }
  }
}
