#include "device_arrays.h"
#include "kernels/swiglu.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("SwiGLU agrees with its twin, also where the exponential overflows") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t width : {1, 3, 4, 96, 1023, 1024, 1028, 11008}) {
    for (const cuda::FloatType type : kFloatTypes) {
      const int64_t n = 13;
      INFO("width " << width << ", type " << int(type));
      std::vector<float> in = random.normal(n * 2 * width, 4);
      in[0] = -200;  // e^200 is infinite: -200 / inf = 0
      in[size_t(2 * width)] = 200;
      const cuda::Buffer gate_up = to_device(in, stream),
                         out = poisoned(n * width * cuda::bytes_of(type), stream);
      cuda::swiglu(gate_up.as<float>(), n, width, out.as(), type, stream);
      const auto got =
          decode(to_host<unsigned char>(out.as(), n * width * cuda::bytes_of(type), stream), type);
      // e^-g within 2 units, a sum, a quotient, a product and the rounding; below 2^-14 fp16 has fewer
      // digits.
      const double relative = 8 * 0x1p-24 + half_unit(type), absolute = 0x1p-25;
      int64_t wrong = 0;
      for (int64_t i = 0; i < n * width; ++i) {
        const double g = in[size_t(i / width * 2 * width + i % width)];
        const double u = in[size_t(i / width * 2 * width + width + i % width)],
                     want = g / (1 + std::exp(-g)) * u;
        wrong += !(std::abs(got[size_t(i)] - want) <= relative * std::abs(want) + absolute);
      }
      CHECK(wrong == 0);
    }
  }
}
