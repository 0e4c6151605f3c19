// out(t, i) = act(g, u) with the gate g and the up value u of row t. u = 1 where the layout has none.
//
//   silu        g / (1 + e^-g) u
//   gelu_tanh   g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) u
//   clamped     g' / (1 + e^(-alpha g')) (u' + 1),  g' = min(g, limit),  u' = min(max(u, -limit), limit)
//
//   halves      a row is [gate (width)][up (width)]
//   pairs       a row is gate 0, up 0, gate 1, up 1, ...
//   alone       a row is [gate (width)]
//
// x is dense float32, out (n, width) is dense. Bytes moved: n width (8 + size of type).
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/activation.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;

/// Strides of x: gate i of row t is x[t * row + i * step], and its up value lies `apart` behind it. Where
/// apart is 0 there are no up values.
struct Places {
  int64_t row, step, apart;
};

/// blockIdx.x is the row, blockIdx.y a piece of it. kPacks: four columns per thread, in the layout `halves`.
template <bool kPacks, class Out>
__global__ void __launch_bounds__(kThreads)
    activate_kernel(const float* x, Places p, int64_t width, ActivationFunction f, Out* out) {
  const int64_t t = blockIdx.x, i = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  const float* gate = x + t * p.row;
  if (kPacks) {
    if (4 * i >= width) return;
    const Pack4<float> g = reinterpret_cast<const Pack4<float>*>(gate)[i];
    const Pack4<float> u = reinterpret_cast<const Pack4<float>*>(gate + width)[i];
    Pack4<Out> y;
    for (int j = 0; j < 4; ++j) store(&y.v[j], f(g.v[j], u.v[j]));
    reinterpret_cast<Pack4<Out>*>(out + t * width)[i] = y;
  } else if (i < width) {
    store(out + t * width + i, f(gate[i * p.step], p.apart > 0 ? gate[i * p.step + p.apart] : 1.0f));
  }
}

}  // namespace

void activate(const GatedRows& r, const Stream& stream) {
  constexpr int64_t kMaxPieces = 65535;
  check(r.n >= 0 && r.n <= INT32_MAX && r.width > 0 && r.x && r.out, "activate: arguments");
  check(r.activation != Activation::clamped || (r.limit > 0 && r.layout != GateLayout::alone),
        "activate: a limit, and up values");
  if (r.n == 0) return;
  const bool halves = r.layout == GateLayout::halves, alone = r.layout == GateLayout::alone;
  const Places places{alone ? r.width : 2 * r.width, alone || halves ? 1 : 2,
                      alone    ? 0
                      : halves ? r.width
                               : 1};
  const bool packs = halves && r.width % 4 == 0 && aligned(r.x, 16) && aligned(r.out, 4 * bytes_of(r.type));
  const int64_t pieces = ((packs ? r.width / 4 : r.width) + kThreads - 1) / kThreads;
  check(pieces <= kMaxPieces, "activate: too wide");
  const dim3 grid{unsigned(r.n), unsigned(pieces)};
  const ActivationFunction f{r.activation, r.limit, r.alpha};
  with_type(r.type, [&](auto* out_type) {
    auto* to = static_cast<decltype(out_type)>(r.out);
    if (packs)
      activate_kernel<true><<<grid, kThreads, 0, raw(stream)>>>(r.x, places, r.width, f, to);
    else
      activate_kernel<false><<<grid, kThreads, 0, raw(stream)>>>(r.x, places, r.width, f, to);
  });
  check_launch("activate");
}

}  // namespace blockgtq::cuda
