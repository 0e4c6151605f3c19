#include <array>
#include <functional>
#include <span>
#include <string>

#include "base/error.h"
#include "device_arrays.h"
#include "eval/cuda_stats.h"
#include "model/cuda_output_moment.h"

using namespace blockgtq;
using blockgtq::test::has_device;
using blockgtq::test::Random;
using blockgtq::test::to_device;

namespace {

struct Shape {
  BlockLayout layout;
  int n_heads, n_kv_heads, v_dim;
  int64_t n_tokens, chunk;
  int64_t from = 0;  // tokens left out at the start of every chunk
};

/// Activations of two layers and the statistics that wait for them.
struct Case {
  explicit Case(const Shape& s) : shape(s) {
    stats.shape.n_layers = 2;
    stats.shape.n_heads = s.n_heads;
    stats.shape.n_kv_heads = s.n_kv_heads;
    stats.shape.v_dim = s.v_dim;
    stats.shape.layout = s.layout;
    stats.first_chunk = 3;
    stats.layers.resize(2);
    for (int64_t t = 0; t < s.n_tokens; t += s.chunk)
      stats.chunk_tokens.push_back(std::min(s.chunk, s.n_tokens - t) - s.from);
    const size_t d = s.layout.head_dim, n = s.n_tokens;
    for (int l = 0; l < 2; ++l) {
      q.push_back(random.normal(int64_t(n * s.n_heads * d)));
      k.push_back(random.normal(int64_t(n * s.n_kv_heads * d)));
      v.push_back(random.normal(int64_t(n * s.n_kv_heads * s.v_dim)));
    }
  }

  Stats on_cpu() const {
    Stats result = stats;
    for (int l = 0; l < 2; ++l)
      for (size_t c = 0; c < stats.chunk_tokens.size(); ++c) {
        const size_t first = c * shape.chunk, d = shape.layout.head_dim;
        accumulate(result, l, stats.first_chunk + int64_t(c), stats.chunk_tokens[c] + shape.from,
                   q[l].data() + first * shape.n_heads * d, k[l].data() + first * shape.n_kv_heads * d,
                   shape.v_dim ? v[l].data() + first * shape.n_kv_heads * shape.v_dim : nullptr, shape.from);
      }
    return result;
  }

  Stats on_gpu() const {
    Stats result = stats;
    CudaStats sums(result, shape.from);
    const cuda::Stream stream;
    std::vector<cuda::Buffer> arrays;  // until the stream is through
    for (int l = 0; l < 2; ++l) {
      const auto put = [&](const std::vector<float>& x) {
        return arrays.emplace_back(to_device(x, stream)).as<float>();
      };
      const float *at_q = put(q[l]), *at_k = put(k[l]), *at_v = shape.v_dim ? put(v[l]) : nullptr;
      sums.add_layer(l, at_q, at_k, at_v, stream.handle());
    }
    sums.finish();
    return result;
  }

  test::Random random;
  Shape shape;
  Stats stats;
  std::vector<std::vector<float>> q, k, v;
};

void check_same(const Stats& a, const Stats& b) {
  CHECK(a.chunk_tokens == b.chunk_tokens);
  for (size_t l = 0; l < a.layers.size(); ++l) {
    const LayerStats &x = a.layers[l], &y = b.layers[l];
    CHECK(x.q2 == y.q2);
    CHECK(x.k2 == y.k2);
    CHECK(x.k_sum == y.k_sum);
    CHECK(x.v_sum == y.v_sum);
    for (const auto& [of_cpu, of_gpu] : {std::pair{&x.kk, &y.kk}, {&x.vv, &y.vv}}) {
      REQUIRE(of_cpu->nodes().size() == of_gpu->nodes().size());
      for (size_t i = 0; i < of_cpu->nodes().size(); ++i) {
        CHECK(of_cpu->nodes()[i].first == of_gpu->nodes()[i].first);
        CHECK(of_cpu->nodes()[i].count == of_gpu->nodes()[i].count);
        CHECK(of_cpu->nodes()[i].value == of_gpu->nodes()[i].value);
      }
    }
  }
}

std::string message(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    return e.what();
  }
  return "no error";
}

}  // namespace

// Both sides add in the same order, and products of floats are exact in float64: every bit is the same.
TEST_CASE("block statistics on the GPU are the CPU's to the last bit") {
  if (!has_device()) return;
  const Pairing half = Pairing::half, interleaved = Pairing::interleaved;
  const Shape shapes[] = {
      {{64, 64, half}, 4, 2, 64, 257, 64},      {{80, 32, interleaved}, 6, 2, 80, 63, 256},
      {{96, 96, half}, 3, 1, 0, 1, 1},          {{128, 128, half}, 16, 2, 128, 257, 100},
      {{256, 256, half}, 2, 1, 256, 63, 63},    {{64, 64, interleaved}, 16, 1, 0, 100, 33},
      {{128, 64, interleaved}, 4, 4, 96, 5, 2}, {{2, 2, half}, 1, 1, 2, 1, 1},
      {{512, 512, half}, 1, 1, 512, 17, 16},    {{64, 64, half}, 4, 2, 64, 263, 64, 5},
      {{128, 128, half}, 3, 1, 0, 70, 33, 3}};
  for (const Shape& shape : shapes) {
    const Case c(shape);
    INFO("seed " << c.random.seed);
    check_same(c.on_cpu(), c.on_gpu());
  }
}

// One chunk of four 256 x 256 moments takes 2 MiB, so that 40 chunks do not fit one transfer.
TEST_CASE("statistics of more chunks than one transfer holds") {
  if (!has_device()) return;
  for (const int64_t from : {0, 1}) {
    const Case c({{256, 256, Pairing::half}, 4, 4, 256, 40 * (1 + from), 1 + from, from});
    check_same(c.on_cpu(), c.on_gpu());
  }
}

TEST_CASE("the first NaN or infinity is named as on the CPU") {
  if (!has_device()) return;
  const Shape shape{{64, 64, Pairing::half}, 4, 2, 32, 100, 40};
  struct Bad {
    int layer, input;
    size_t token;
    float value;
  };
  for (const Bad& bad :
       {Bad{0, 0, 99, NAN}, Bad{1, 1, 40, INFINITY}, Bad{1, 2, 39, -INFINITY}, Bad{0, 1, 0, NAN}}) {
    Case c(shape);
    std::vector<float>& x = (bad.input == 0 ? c.q : bad.input == 1 ? c.k : c.v)[bad.layer];
    const size_t width = x.size() / shape.n_tokens;
    x[bad.token * width + width / 2] = bad.value;
    x[99 * width + width - 1] = bad.value;  // a later one, in another chunk
    c.v[1][99 * 64] = NAN;                  // and one in the last chunk of the last layer
    CHECK(message([&] { c.on_gpu(); }) == message([&] { c.on_cpu(); }));
  }
}

TEST_CASE("moments of output weights are the CPU's to the last bit") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  for (const auto& [rows, heads, kv_heads, dim] :
       std::vector<std::array<int, 4>>{{70, 6, 2, 16}, {1000, 4, 4, 64}, {513, 8, 1, 128}, {300, 3, 3, 82}}) {
    INFO(rows << " rows, " << heads << " heads of " << dim << ", " << kv_heads << " KV heads");
    const std::vector<float> w = random.normal(int64_t(rows) * heads * dim);
    Linear o;
    o.weight.name = "o";
    o.weight.dtype = DType::f32;
    o.weight.shape = {rows, int64_t(heads) * dim};
    o.weight.data = std::as_bytes(std::span(w));
    AttentionShape shape;
    shape.n_heads = heads, shape.n_kv_heads = kv_heads, shape.v_dim = dim;
    CudaOutputMoment device(rows, shape);
    for (int again = 0; again < 2; ++again) CHECK(device.moment(o) == output_moment(o, shape));
  }
}
