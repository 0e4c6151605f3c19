#include "device_arrays.h"
#include "kernels/forward/activation.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

double twin(const cuda::GatedRows& rows, double g, double u) {
  switch (rows.activation) {
    case cuda::Activation::silu:
      return g / (1 + std::exp(-g)) * u;
    case cuda::Activation::gelu_tanh:
      return 0.5 * g * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g))) *
             u;
    default:
      break;
  }
  const double limit = double(rows.limit), low = std::min(g, limit);
  return low / (1 + std::exp(-double(rows.alpha) * low)) * (std::clamp(u, -limit, limit) + 1);
}

void check_activation(cuda::GatedRows rows, Random& random, const cuda::Stream& stream) {
  const bool alone = rows.layout == cuda::GateLayout::alone, pairs = rows.layout == cuda::GateLayout::pairs;
  const int64_t n = rows.n, width = rows.width, row = alone ? width : 2 * width;
  std::vector<float> in = random.normal(n * row, 4);
  in[0] = -200;  // e^200 is infinite: -200 / inf = 0
  in[size_t(row)] = 200;
  const cuda::Buffer x = to_device(in, stream), out = poisoned(n * width * cuda::bytes_of(rows.type), stream);
  rows.x = x.as<float>();
  rows.out = out.as();
  cuda::activate(rows, stream);
  const auto got =
      decode(to_host<unsigned char>(out.as(), n * width * cuda::bytes_of(rows.type), stream), rows.type);
  // An exponential within 2 units, a sum, a quotient, two products and the rounding; 1 + tanh, and u + 1, may
  // cancel: what is left is wrong by units of one times g, or times silu(g) <= limit. Below 2^-14 fp16 has
  // fewer digits.
  const double relative = 10 * 0x1p-24 + half_unit(rows.type);
  int64_t wrong = 0;
  for (int64_t i = 0; i < n * width; ++i) {
    const float* at = &in[size_t(i / width * row)];
    const int64_t column = i % width;
    const double g = double(at[pairs ? 2 * column : column]),
                 u = alone ? 1.0 : double(at[pairs ? 2 * column + 1 : width + column]),
                 want = twin(rows, g, u);
    const double cancelled =
        rows.activation == cuda::Activation::silu ? 0 : 8 * 0x1p-24 * std::abs(g) * (1 + std::abs(u));
    wrong += !(std::abs(double(got[size_t(i)]) - want) <= relative * std::abs(want) + cancelled + 0x1p-25);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("activations agree with their twins, also where the exponential overflows") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  using cuda::Activation, cuda::GateLayout;
  for (const int64_t width : {1, 3, 4, 96, 1023, 1024, 1028, 11008}) {
    for (const cuda::FloatType type : kFloatTypes) {
      for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::clamped}) {
        for (const GateLayout layout : {GateLayout::halves, GateLayout::pairs, GateLayout::alone}) {
          if (activation == Activation::clamped && layout == GateLayout::alone) continue;
          INFO("width " << width << ", type " << int(type) << ", activation " << int(activation)
                        << ", layout " << int(layout));
          check_activation({nullptr, 5, width, activation, layout, 7, 1.702f, nullptr, type}, random, stream);
        }
      }
    }
  }
}
