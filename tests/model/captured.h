// A forward pass with everything it shows, and folders for changed copies of the small trained models.
#pragma once
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "catch.h"
#include "hf/safetensors_builder.h"
#include "model/backend.h"

namespace blockgtq::test {

struct Captured {
  std::vector<std::vector<float>> q, k, v;  // per layer
  std::vector<float> logits;                // (T, vocab)
  bool operator==(const Captured&) const = default;
};

using OnLayer = std::function<void(LayerActivations&)>;  // may be empty
using Prepare = std::function<void(ForwardRequest&)>;    // may be empty

/// A run of `backend`; to_host(layer, x, n) has n of the layer's numbers from x on. prepare: sees the request
/// before it runs.
template <class ToHost>
Captured capture(Backend& backend, const ToHost& to_host, const Checkpoint& model,
                 std::span<const int32_t> tokens, int64_t chunk, bool with_logits, const OnLayer& change,
                 const Prepare& prepare = nullptr) {
  const Config& c = model.config();
  Captured out;
  ForwardRequest request;
  request.tokens = tokens;
  request.chunk = chunk;
  request.on_layer = [&](LayerActivations& a) {
    out.q.push_back(to_host(a, a.q, a.n_tokens * c.n_heads * c.head_dim));
    out.k.push_back(to_host(a, a.k, a.n_tokens * c.n_kv_heads * c.head_dim));
    if (a.v) out.v.push_back(to_host(a, a.v, a.n_tokens * c.n_kv_heads * c.v_dim));
    if (change) change(a);
  };
  if (with_logits)
    request.on_logits = [&](int64_t first, int64_t n, const float* logits) {
      if (int64_t(out.logits.size()) != first * c.vocab) throw std::logic_error("logits out of order");
      out.logits.insert(out.logits.end(), logits, logits + n * c.vocab);
    };
  if (prepare) prepare(request);
  backend.forward(model, request);
  return out;
}

inline std::vector<int32_t> some_tokens(size_t n, int vocab = 2048) {
  std::vector<int32_t> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = int32_t((i * i * 31 + i * 17 + 3) % size_t(vocab));
  return out;
}

/// A run from every boundary of a run is the rest of that run, bit for bit.
template <class ToHost>
void check_boundaries(Backend& backend, const ToHost& to_host, const Checkpoint& model, int64_t chunk) {
  const std::vector<int32_t> tokens = some_tokens(100);
  std::vector<LayerBoundary> boundaries;
  const auto keep = [&](ForwardRequest& request) {
    request.on_boundary = [&](int layer, const std::function<std::span<const float>()>& residual) {
      const std::span<const float> x = residual();
      boundaries.push_back({layer, {x.begin(), x.end()}});
    };
  };
  const Captured whole = capture(backend, to_host, model, tokens, chunk, true, nullptr, keep);
  CHECK(whole == capture(backend, to_host, model, tokens, chunk, true, nullptr));
  REQUIRE(int(boundaries.size()) == model.config().n_layers - 1);
  const std::vector<LayerBoundary> all = std::move(boundaries);
  for (const LayerBoundary& start : all) {
    INFO(start.layer);
    boundaries.clear();
    const Captured rest =
        capture(backend, to_host, model, tokens, chunk, true, nullptr, [&](ForwardRequest& request) {
          request.start = &start;
          keep(request);
        });
    const auto from = [&](const std::vector<std::vector<float>>& layers) {
      return std::vector(layers.begin() + start.layer, layers.end());
    };
    CHECK(rest.q == from(whole.q));
    CHECK(rest.k == from(whole.k));
    CHECK(rest.v == from(whole.v));
    CHECK(rest.logits == whole.logits);
    REQUIRE(int(boundaries.size()) == model.config().n_layers - 1 - start.layer);
    for (const LayerBoundary& b : boundaries) CHECK(b.x == all[size_t(b.layer - 1)].x);
  }
}

inline Captured run_forward(const Checkpoint& model, std::span<const int32_t> tokens, int64_t chunk,
                            bool with_logits = true, const OnLayer& change = nullptr) {
  const auto copy = [](const LayerActivations&, const float* x, int64_t n) {
    return std::vector<float>(x, x + n);
  };
  return capture(*make_cpu_backend(), copy, model, tokens, chunk, with_logits, change);
}

/// |a - b| / |b|
inline double relative_distance(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double off = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    off += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(off / norm);
}

inline fs::path trained_model(const std::string& name) {
  return fs::path(BLOCKGTQ_SOURCE_DIR) / "data/models" / name;
}

/// A tensor with its bytes, to be written elsewhere.
struct OwnTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

inline std::vector<OwnTensor> tensors_of(const fs::path& folder) {
  std::vector<OwnTensor> out;
  const MappedFile file(folder / "model.safetensors");
  for (const Tensor& t : read_safetensors(file))
    out.push_back(
        {t.name, t.dtype_name, t.shape, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}});
  return out;
}

inline OwnTensor& find(std::vector<OwnTensor>& tensors, const std::string& name) {
  for (OwnTensor& t : tensors)
    if (t.name == name) return t;
  throw std::logic_error("no tensor " + name);
}

/// (n, rows, cols) of 16-bit values with the last two dimensions changed over.
inline void transpose(OwnTensor& t) {
  const size_t n = size_t(t.shape[0]), rows = size_t(t.shape[1]), cols = size_t(t.shape[2]);
  std::string out(t.bytes.size(), '\0');
  for (size_t e = 0; e < n; ++e)
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; j < cols; ++j)
        for (size_t b = 0; b < 2; ++b)
          out[((e * cols + j) * rows + i) * 2 + b] = t.bytes[((e * rows + i) * cols + j) * 2 + b];
  std::swap(t.shape[1], t.shape[2]);
  t.bytes = out;
}

inline void write_model(const fs::path& folder, const Json& config, const std::vector<OwnTensor>& tensors) {
  SafetensorsBuilder builder;
  for (const OwnTensor& t : tensors) builder.add(t.name, t.dtype, t.shape, t.bytes);
  builder.write(folder / "model.safetensors");
  write_bytes(folder / "config.json", config.dump());
}

inline Json config_of(const std::string& name) {
  return read_json(trained_model(name) / "config.json", kMaxConfigBytes);
}

}  // namespace blockgtq::test
