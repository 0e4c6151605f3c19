#include <cmath>

#include "eval/cuda_codes.h"
#include "kernels/codes/tq_mse.h"
#include "quant/block_gtq.h"
#include "quant/packing.h"
#include "quant/tq_mse.h"
#include "uneven_keys.h"

using namespace blockgtq;
using namespace blockgtq::test;
using cuda::FloatType;

namespace {

/// Quantizers of all heads, as the host and as the kernels hold them.
struct Heads {
  std::vector<std::unique_ptr<Quantizer>> quantizers;
  std::vector<cuda::CodeSpec> specs;
  void add(std::unique_ptr<Quantizer> quantizer) {
    specs.push_back(code_spec(*quantizer));
    quantizers.push_back(std::move(quantizer));
  }
  int dim() const { return quantizers[0]->dim(); }
  size_t size() const { return quantizers.size(); }
};

/// A head per list of widths, which repeat over the blocks in runs; an empty list is the uniform baseline.
Heads make_heads(int dim, const std::vector<std::vector<int>>& widths) {
  Heads heads;
  for (const std::vector<int>& list : widths) {
    if (list.empty()) {
      heads.add(std::make_unique<UniformTqMse>(dim, 3));
      continue;
    }
    std::vector<uint8_t> bits(dim / 2);
    for (size_t b = 0; b < bits.size(); ++b) bits[b] = uint8_t(list[b / 3 % list.size()]);
    heads.add(std::make_unique<BlockGtq>(BlockLayout{dim, dim, Pairing::half}, bits));
  }
  return heads;
}

/// Keys (T, H, D) as the device reads them, and the same numbers as floats.
struct Keys {
  Keys(const std::vector<float>& x, FloatType type, const cuda::Stream& stream)
      : values(rounded(x, type)), device(to_device(test::encode(x, type), stream)) {}
  std::vector<float> values;
  cuda::Buffer device;
};

std::vector<float> head_of(const std::vector<float>& keys, size_t head, size_t n_heads, int dim) {
  std::vector<float> x;
  for (size_t t = 0; t < keys.size() / (n_heads * dim); ++t)
    x.insert(x.end(), keys.begin() + (t * n_heads + head) * dim,
             keys.begin() + (t * n_heads + head + 1) * dim);
  return x;
}

/// Codes of all heads one after the other.
std::vector<uint8_t> cpu_codes(const Heads& heads, const std::vector<float>& keys) {
  std::vector<uint8_t> all;
  for (size_t h = 0; h < heads.size(); ++h) {
    const auto x = head_of(keys, h, heads.size(), heads.dim());
    std::vector<uint8_t> codes(x.size() / heads.dim() * heads.quantizers[h]->code_bytes());
    heads.quantizers[h]->encode(x.data(), x.size() / heads.dim(), codes.data());
    all.insert(all.end(), codes.begin(), codes.end());
  }
  return all;
}

const int64_t kSizes[] = {1, 63, 257};

void check_exact(const Heads& heads, int64_t n_tokens, FloatType type) {
  const int d = heads.dim();
  const size_t n_heads = heads.size();
  test::Random random;
  INFO("seed " << random.seed << " dim " << d << " tokens " << n_tokens);
  auto x = uneven_keys(random, n_tokens, int64_t(n_heads), d);
  if (n_tokens > 2) std::fill_n(x.begin() + 2 * n_heads * d, d, 0.0f);
  const cuda::Stream stream;
  const Keys keys(x, type, stream);
  const cuda::CodeTables tables(heads.specs, stream);
  const cuda::CodeBatch batch{&tables, 0, int(n_heads), n_tokens};
  const cuda::Buffer codes = poisoned(batch.code_bytes(), stream), sums = poisoned(16 * n_heads, stream),
                     scratch = poisoned(8 * cuda::exact_scratch(batch), stream),
                     restored = poisoned(4 * x.size(), stream);
  cuda::encode_exact(batch, keys.device.as(), type, codes.as<uint8_t>(), sums.as<double>(),
                     scratch.as<double>(), stream);
  cuda::decode_exact(batch, codes.as<uint8_t>(), restored.as<float>(), stream);

  const auto expected = cpu_codes(heads, keys.values);
  REQUIRE(to_host<uint8_t>(codes.as(), batch.code_bytes(), stream) == expected);
  const auto distortion = to_host<double>(sums.as(), 2 * n_heads, stream);
  const auto y = to_host<float>(restored.as(), x.size(), stream);
  for (size_t h = 0; h < n_heads; ++h) {
    const auto one = head_of(keys.values, h, n_heads, d);
    std::vector<float> back(one.size());
    heads.quantizers[h]->decode(expected.data() + batch.offset(int(h)), n_tokens, back.data());
    CHECK(head_of(y, h, n_heads, d) == back);
    double error = 0, energy = 0;
    for (size_t i = 0; i < one.size(); ++i) {
      error += (double(one[i]) - back[i]) * (double(one[i]) - back[i]);
      energy += double(one[i]) * one[i];
    }
    // float64 sums of at most 257 * 256 positive terms in another order: 7e4 * 2^-53
    CHECK(distortion[2 * h] == Approx(error).epsilon(1e-11));
    CHECK(distortion[2 * h + 1] == Approx(energy).epsilon(1e-11));
  }
}

}  // namespace

TEST_CASE("exact encoding and decoding on the GPU give the CPU's bytes and numbers") {
  if (!has_device()) return;
  for (const int dim : {64, 80, 96, 128, 256, 34, 2})
    for (const int64_t n : kSizes) {
      check_exact(make_heads(dim, {{}, {1, 2, 3, 4, 5, 6, 7, 8}, {4, 3, 2}}), n, FloatType::f32);
      check_exact(make_heads(dim, {{5}}), n, FloatType::f32);
    }
  for (const int64_t n : kSizes) {
    check_exact(make_heads(128, {{2, 6}, {3}}), n, FloatType::f16);
    check_exact(make_heads(128, {{2, 6}, {3}}), n, FloatType::bf16);
  }
  for (int bits = 1; bits <= 8; ++bits) check_exact(make_heads(64, {{bits}}), 63, FloatType::f32);
}

TEST_CASE("heads in the middle of the tables") {
  if (!has_device()) return;
  const Heads all = make_heads(64, {{3}, {2, 5}, {4, 1}}), last = make_heads(64, {{2, 5}, {4, 1}});
  test::Random random;
  const cuda::Stream stream;
  const Keys keys(uneven_keys(random, 77, 2, 64), FloatType::f32, stream);
  const cuda::CodeTables tables(all.specs, stream);
  const cuda::CodeBatch batch{&tables, 1, 2, 77};
  const cuda::Buffer codes = poisoned(batch.code_bytes(), stream);
  cuda::encode_exact(batch, keys.device.as(), FloatType::f32, codes.as<uint8_t>(), nullptr, nullptr, stream);
  CHECK(to_host<uint8_t>(codes.as(), batch.code_bytes(), stream) == cpu_codes(last, keys.values));
}

TEST_CASE("heads that are too long for the tables") {
  if (!has_device()) return;
  const cuda::Stream stream;
  CHECK_THROWS_AS(cuda::CodeTables({code_spec(UniformTqMse(258, 3))}, stream), std::logic_error);
}
