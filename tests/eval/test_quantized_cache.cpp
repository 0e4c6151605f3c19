#include <limits>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "catch.h"
#include "eval/quantized_cache.h"
#include "gaussian.h"
#include "quant/block_gtq.h"
#include "quant/kivi.h"
#include "quant/random.h"

using namespace blockgtq;
using test::gaussian;

namespace {

constexpr int kHeads = 2, kDim = 16, kValueDim = 8;

HeadQuantizers heads(int dim, int bits) {
  HeadQuantizers out;
  for (int h = 0; h < kHeads; ++h) out.push_back(std::make_unique<UniformTqMse>(dim, bits, 42 + h));
  return out;
}

/// Two layers: keys at `bits`, values at one bit more; 0 bits: exact.
QuantizedCache cache(int bits, bool values) {
  QuantizedCache out;
  for (int l = 0; l < 2; ++l) {
    if (bits) out.keys.push_back(heads(kDim, bits + l));
    if (values) out.values.push_back(heads(kValueDim, bits + 1));
  }
  return out;
}

/// One head of x (T, H, D), encoded and decoded on its own.
std::vector<float> alone(const Quantizer& quantizer, const std::vector<float>& x, int64_t first, int64_t n,
                         int head, int dim) {
  std::vector<float> rows;
  for (int64_t t = first; t < first + n; ++t)
    rows.insert(rows.end(), x.begin() + (t * kHeads + head) * dim, x.begin() + (t * kHeads + head + 1) * dim);
  std::vector<uint8_t> codes(quantizer.code_bytes(size_t(n)));
  quantizer.encode(rows.data(), size_t(n), codes.data());
  quantizer.decode(codes.data(), size_t(n), rows.data());
  return rows;
}

}  // namespace

TEST_CASE("every window is held by its own cache, the last one shorter, whatever the threads") {
  const int64_t chunk = 300, n = 2 * chunk + 70;
  const std::vector<float> k = gaussian(size_t(n * kHeads * kDim), 1),
                           v = gaussian(size_t(n * kHeads * kValueDim), 2);
  const QuantizedCache exact, keys = cache(2, false), both = cache(3, true);
  std::vector<std::vector<float>> results;
  for (int n_threads : {1, 3}) {
    set_threads(n_threads);
    std::vector<float> k_hat = k, v_hat = v;
    requantize({1, n, chunk, {&keys, &exact, &both}, k_hat.data(), v_hat.data()});
    results.push_back(k_hat);
    for (int h = 0; h < kHeads; ++h)
      for (int window : {0, 1, 2}) {
        const QuantizedCache& held = *std::vector{&keys, &exact, &both}[size_t(window)];
        const int64_t first = window * chunk, count = std::min(chunk, n - first);
        auto wanted = [&](const std::vector<HeadQuantizers>& layers, const std::vector<float>& x, int dim) {
          if (!layers.empty()) return alone(*layers[1][size_t(h)], x, first, count, h, dim);
          std::vector<float> rows;
          for (int64_t t = first; t < first + count; ++t)
            rows.insert(rows.end(), x.begin() + (t * kHeads + h) * dim,
                        x.begin() + (t * kHeads + h + 1) * dim);
          return rows;
        };
        auto found = [&](const std::vector<float>& x, int dim) {
          std::vector<float> rows;
          for (int64_t t = first; t < first + count; ++t)
            rows.insert(rows.end(), x.begin() + (t * kHeads + h) * dim,
                        x.begin() + (t * kHeads + h + 1) * dim);
          return rows;
        };
        CHECK((found(k_hat, kDim) == wanted(held.keys, k, kDim)));
        CHECK((found(v_hat, kValueDim) == wanted(held.values, v, kValueDim)));
      }
  }
  set_threads(0);
  CHECK((results[0] == results[1]));
}

TEST_CASE("bytes are those of all layers and heads") {
  const QuantizedCache both = cache(2, true);
  // keys: 2 heads x (16 x 2 / 8 + 2) and 2 x (16 x 3 / 8 + 2); values: 2 layers x 2 heads x (8 x 3 / 8 + 2)
  CHECK(both.key_bytes(64) == 2 * 6 + 2 * 8);
  CHECK(both.value_bytes(64) == 4 * 5);
  CHECK(cache(0, false).key_bytes(64) == 0);
}

TEST_CASE("positions of the sink stay as they are, in every window, and cost two bytes a number") {
  const int64_t chunk = 20, n = 2 * chunk + 3;
  const std::vector<float> k = gaussian(size_t(n * kHeads * kDim), 1),
                           v = gaussian(size_t(n * kHeads * kValueDim), 2);
  QuantizedCache held = cache(3, true);
  held.exact.sink = 4;
  std::vector<float> k_hat = k, v_hat = v;
  requantize({1, n, chunk, {&held, &held, &held}, k_hat.data(), v_hat.data()});
  for (int h = 0; h < kHeads; ++h)
    for (const int64_t first : {int64_t(0), chunk}) {
      const std::vector<float> rest = alone(*held.keys[1][size_t(h)], k, first + 4, chunk - 4, h, kDim);
      for (int64_t t = 0; t < chunk; ++t) {
        const auto at = [&](const std::vector<float>& x) {
          return std::vector(x.begin() + ((first + t) * kHeads + h) * kDim,
                             x.begin() + ((first + t) * kHeads + h + 1) * kDim);
        };
        const std::vector<float> want =
            t < 4 ? at(k) : std::vector(rest.begin() + (t - 4) * kDim, rest.begin() + (t - 3) * kDim);
        CHECK((at(k_hat) == want));
      }
    }
  // The last window is shorter than the sink.
  CHECK((std::vector(k_hat.begin() + 2 * chunk * kHeads * kDim, k_hat.end()) ==
         std::vector(k.begin() + 2 * chunk * kHeads * kDim, k.end())));
  const QuantizedCache plain = cache(3, true);
  CHECK(held.key_bytes(20) == Approx((plain.key_bytes(20) * 16 + 4 * 2 * kHeads * kDim * 2) / 20));
  CHECK(held.value_bytes(3) == 2 * kHeads * kValueDim * 2);
}

TEST_CASE("positions that are recent to the end of a window are not coded, and cost two bytes a number") {
  const int64_t chunk = 40, n = chunk + 9;
  const std::vector<float> k = gaussian(size_t(n * kHeads * kDim), 1);
  QuantizedCache per_vector = cache(3, false), shared = cache(3, false);
  for (HeadQuantizers& layer : shared.keys)
    for (auto& quantizer : layer) quantizer = std::make_unique<Kivi>(kDim, 2);  // a scale for 32 tokens
  for (QuantizedCache* held : {&per_vector, &shared}) {
    held->exact = {4, 6};
    std::vector<float> k_hat = k;
    requantize({1, n, chunk, {held, held}, k_hat.data(), nullptr});
    // The last window has nine positions, which are the sink and recent ones.
    CHECK((std::vector(k_hat.begin() + chunk * kHeads * kDim, k_hat.end()) ==
           std::vector(k.begin() + chunk * kHeads * kDim, k.end())));
    for (int h = 0; h < kHeads; ++h) {
      const std::vector<float> coded = alone(*held->keys[1][size_t(h)], k, 4, chunk - 10, h, kDim);
      for (int64_t t = 0; t < chunk; ++t)
        for (int64_t i = 0; i < kDim; ++i) {
          const size_t at = size_t((t * kHeads + h) * kDim + i);
          const bool exact = t < 4 || t >= chunk - 6;
          REQUIRE(k_hat[at] == (exact ? k[at] : coded[size_t((t - 4) * kDim + i)]));
        }
    }
    const double exact_bytes = 2 * kHeads * kDim * 2;  // of a position, both layers
    double coded_bytes = 0;
    for (const HeadQuantizers& layer : held->keys)
      for (const auto& quantizer : layer) coded_bytes += double(quantizer->code_bytes(chunk - 10));
    CHECK(held->key_bytes(chunk) == Approx((coded_bytes + 10 * exact_bytes) / chunk));
    CHECK(held->key_bytes(9) == Approx(exact_bytes));
  }
}

TEST_CASE("norms beyond fp16 are counted; what cannot be encoded is named by layer and head") {
  const int64_t n = 40;
  std::vector<float> k = gaussian(size_t(n * kHeads * kDim), 3),
                     v = gaussian(size_t(n * kHeads * kValueDim), 4);
  const QuantizedCache both = cache(3, true);
  CHECK(requantize({1, n, n, {&both}, std::vector<float>(k).data(), std::vector<float>(v).data()}) == 0);
  k[size_t(7 * kHeads + 1) * kDim] = 1e5f;
  v[size_t(9 * kHeads) * kValueDim] = -7e4f;
  CHECK(requantize({1, n, n, {&both}, std::vector<float>(k).data(), std::vector<float>(v).data()}) == 2);
  k[size_t(7 * kHeads + 1) * kDim] = std::numeric_limits<float>::infinity();
  try {
    requantize({1, n, n, {&both}, k.data(), v.data()});
    FAIL("an infinite key was encoded");
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    CHECK_THAT(e.what(), ContainsSubstring("layer 1: KV head 1: "));
  }
}
