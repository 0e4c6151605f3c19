// A model through both backends, and how far apart they are.
#pragma once
#include "base/error.h"
#include "device_arrays.h"
#include "model/captured.h"
#include "model/cuda_backend.h"

namespace blockgtq::test {

inline Captured run_cuda(const Checkpoint& model, std::span<const int32_t> tokens, int64_t chunk,
                         const CudaOptions& options, bool with_logits = true,
                         const OnLayer& change = nullptr) {
  const auto download = [](const LayerActivations& a, const float* x, int64_t n) {
    REQUIRE(a.stream != nullptr);
    return to_host<float>(x, n, cuda::Stream(a.stream));
  };
  return capture(*make_cuda_backend(options), download, model, tokens, chunk, with_logits, change);
}

/// Sums of squares per head and block, for the rows of one layer.
inline std::vector<double> energies(const std::vector<float>& x, int64_t heads, const BlockLayout& layout) {
  const int64_t dim = layout.head_dim;
  std::vector<double> out(size_t(heads * layout.n_blocks()), 0);
  for (size_t i = 0; i < x.size(); i += size_t(dim))
    for (int b = 0; b < layout.n_blocks(); ++b)
      for (const int j : layout.coords(b))
        out[size_t(int64_t(i) / dim % heads * layout.n_blocks() + b)] +=
            double(x[i + size_t(j)]) * x[i + size_t(j)];
  return out;
}

inline double worst_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = worse(worst, std::abs(a[i] / b[i] - 1));
  return worst;
}

struct Differences {
  double energy = 0, activation = 0, logits = 0;  // the worst of all layers
};

inline Differences compare(const Captured& got, const Captured& want, const Config& c) {
  REQUIRE(got.q.size() == want.q.size());
  REQUIRE(got.v.size() == want.v.size());
  Differences out;
  const auto add = [&](const std::vector<float>& a, const std::vector<float>& b, int64_t heads) {
    out.energy =
        worse(out.energy, worst_ratio(energies(a, heads, c.blocks()), energies(b, heads, c.blocks())));
    out.activation = worse(out.activation, distance(a, b));
  };
  for (size_t l = 0; l < got.q.size(); ++l) {
    add(got.q[l], want.q[l], c.n_heads);
    add(got.k[l], want.k[l], c.n_kv_heads);
  }
  for (size_t l = 0; l < got.v.size(); ++l)
    out.activation = worse(out.activation, distance(got.v[l], want.v[l]));
  out.logits = want.logits.empty() ? 0 : distance(got.logits, want.logits);
  return out;
}

inline CudaOptions with_type(ComputeType type) {
  CudaOptions out;
  out.type = type;
  return out;
}

template <class Body>
Error error_of(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    return e;
  }
  FAIL("no error");
  return Error(Exit::ok, "");
}

}  // namespace blockgtq::test
