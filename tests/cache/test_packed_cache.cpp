#include <cmath>

#include "cache/packed_cache.h"
#include "catch.h"
#include "quant/block_gtq.h"
#include "quant/linear_quantizer.h"
#include "quant/methods.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("packed cache: a position comes back, its neighbours stay", "[cache]") {
  for (const auto& c :
       {test::CacheCase{64, 4, 2, 4, 3, 2, false}, test::CacheCase{80, 2, 1, 3, 3, 4, true, true},
        test::CacheCase{128, 4, 2, 1, 8, 8, true, false}}) {
    const PackedCache cache(test::packed_spec(c, 7));
    const int n = 2 * kPagePositions, width = c.n_kv_heads * c.dim;
    const test::Tokens tokens = test::random_tokens(cache.spec(), n, 11);
    std::vector<std::vector<uint8_t>> pages(2, std::vector<uint8_t>(cache.shape().bytes, 0xff));
    std::vector<double> k(width), v(width), k_before(width), v_before(width);
    for (int t = 0; t < n; ++t) {
      const int other = (t + 37) % n;
      if (t > 0) cache.read(other, pages[other / kPagePositions].data(), k_before.data(), v_before.data());
      cache.write(t, &tokens.k[size_t(t) * width], &tokens.v[size_t(t) * width],
                  pages[t / kPagePositions].data());
      cache.read(other, pages[other / kPagePositions].data(), k.data(), v.data());
      if (t > 0) {
        const bool same = std::equal(k.begin(), k.end(), k_before.begin(), [](double a, double b) {
          return a == b || (std::isnan(a) && std::isnan(b));
        });
        REQUIRE(same);
      }
    }
    double error = 0, energy = 0;
    for (int t = 0; t < n; ++t) {
      cache.read(t, pages[t / kPagePositions].data(), k.data(), v.data());
      for (int i = 0; i < width; ++i) {
        error += std::pow(v[i] - tokens.v[size_t(t) * width + i], 2);
        energy += std::pow(tokens.v[size_t(t) * width + i], 2);
      }
    }
    // The distortion of the codebook for N(0, 1) (2 bits 0.1175, 4 bits 0.0095, 8 bits below 0.0005), which
    // the mean can only lower.
    const double bound = c.value_bits == 2 ? 0.13 : c.value_bits == 4 ? 0.011 : 0.0005;
    REQUIRE(error / energy < bound);
  }
}

TEST_CASE("packed cache: one group is TQ-MSE of the whole head", "[cache]") {
  // The same rotation, codes and norm as UniformTqMse; the norm correction is in the stored norm here, which
  // fp16 rounds by 2^-11 at most, and centroids are bytes: off by at most half a 127th of the largest, 0.5 /
  // 127 x 2.15 for coordinates of mean square 0.97, hence 8.6e-3 of the vector at the worst.
  const int dim = 128;
  const UniformTqMse tq(dim, 3);
  PackedSpec spec;
  spec.layout = {dim, dim, Pairing::half};
  spec.inv_freq.assign(dim / 2, 1.0);
  spec.n_heads = 1;
  LinearCode code = test::linear_code(dim, {{dim, 3}}, true, 1);
  const std::vector<double> rotation = haar_rotation(dim, 42);
  for (int i = 0; i < dim; ++i)
    for (int j = 0; j < dim; ++j) {
      code.forward[i * dim + j] = float(rotation[i * dim + j]);
      code.backward[j * dim + i] = float(rotation[i * dim + j]);
    }
  spec.key = spec.value = {code};
  const PackedCache cache(spec);
  const test::Tokens tokens = test::random_tokens(spec, kPagePositions, 3);
  std::vector<uint8_t> page(cache.shape().bytes), codes(tq.code_bytes());
  std::vector<float> want(dim);
  std::vector<double> k(dim), v(dim);
  for (int t = 0; t < kPagePositions; ++t) {
    cache.write(t, &tokens.k[t * dim], &tokens.v[t * dim], page.data());
    cache.read(t, page.data(), k.data(), v.data());
    tq.encode(&tokens.k[t * dim], 1, codes.data());
    tq.decode(codes.data(), 1, want.data());
    double difference = 0, energy = 0;
    for (int d = 0; d < dim; ++d) {
      difference += std::pow(k[d] - want[d], 2);
      energy += std::pow(want[d], 2);
    }
    REQUIRE(std::sqrt(difference / energy) < 9.2e-3);
  }
}

TEST_CASE("packed cache: attention over one position returns its value", "[cache]") {
  const test::CacheCase c{64, 4, 2, 2, 4, 4, true, true};
  const PackedCache cache(test::packed_spec(c, 5));
  const test::Tokens tokens = test::random_tokens(cache.spec(), 1, 6);
  std::vector<uint8_t> page(cache.shape().bytes);
  cache.write(0, tokens.k.data(), tokens.v.data(), page.data());
  std::vector<double> k(2 * 64), v(2 * 64), out(4 * 64);
  cache.read(0, page.data(), k.data(), v.data());
  const std::vector<float> q(4 * 64, 0.5f);
  const uint8_t* pages[] = {page.data()};
  attend(cache.read(pages, 0, 1), 4, 1, q.data(), 0.125, out.data());
  for (int g = 0; g < 4; ++g)
    for (int d = 0; d < 64; ++d) REQUIRE(out[g * 64 + d] == Approx(v[g / 2 * 64 + d]));
}

TEST_CASE("packed cache: a chunk's tokens see the prefix and what came before them", "[cache]") {
  const test::CacheCase c{64, 4, 2, 3, 4, 4, true, true};
  const PackedCache cache(test::packed_spec(c, 15));
  const int prefix = 70, chunk = 5, width = 2 * 64;
  const test::Tokens tokens = test::random_tokens(cache.spec(), prefix + chunk, 16);
  const size_t bytes = cache.shape().bytes;
  std::vector<uint8_t> storage(2 * bytes);
  const uint8_t* pages[] = {storage.data(), storage.data() + bytes};
  std::vector<double> k((prefix + chunk) * width), v(k.size());
  for (int t = 0; t < prefix; ++t) {
    uint8_t* page = storage.data() + t / kPagePositions * bytes;
    cache.write(t, &tokens.k[t * width], &tokens.v[t * width], page);
    cache.read(t, page, &k[t * width], &v[t * width]);
  }
  std::copy_n(&tokens.k[prefix * width], chunk * width, &k[prefix * width]);
  std::copy_n(&tokens.v[prefix * width], chunk * width, &v[prefix * width]);
  std::mt19937_64 random(17);
  std::normal_distribution<float> normal;
  std::vector<float> q(chunk * 4 * 64);
  for (float& x : q) x = normal(random);
  std::vector<double> out(q.size());
  for (const int from : {0, prefix}) {  // without the prefix, and behind it
    const int first = prefix - from;
    PlainPositions x = cache.read(pages, 0, from);
    x.k.insert(x.k.end(), k.begin() + prefix * width, k.end());
    x.v.insert(x.v.end(), v.begin() + prefix * width, v.end());
    attend(x, 4, chunk, q.data(), 0.125, out.data());
    for (int i = 0; i < chunk; ++i)
      for (int g = 0; g < 4; ++g) {
        std::vector<double> want(64);
        double sum = 0;
        for (int t = first; t <= prefix + i; ++t) {
          double s = 0;
          for (int d = 0; d < 64; ++d) s += 0.125 * q[(i * 4 + g) * 64 + d] * k[t * width + g / 2 * 64 + d];
          sum += std::exp(s);
          for (int d = 0; d < 64; ++d) want[d] += std::exp(s) * v[t * width + g / 2 * 64 + d];
        }
        for (int d = 0; d < 64; ++d)
          REQUIRE(out[(i * 4 + g) * 64 + d] == Approx(want[d] / sum).epsilon(1e-9).margin(1e-9));
      }
  }
}

TEST_CASE("packed cache: what the methods promise, at no more bytes", "[cache]") {
  // Position 0, where RoPE does nothing: the cache must give what the method's own quantizer gives, up to
  // byte centroids (8.6e-3 at the worst, above) and the fp16 norm.
  const int dim = 64, n = 64;
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  const BlockLayout layout{dim, dim, Pairing::half};
  HeadCalibration calibration;
  std::vector<uint8_t> bits;
  std::vector<float> size(dim), mean(dim);
  for (int b = 0; b < layout.n_blocks(); ++b) {
    const auto [i, j] = layout.coords(b);
    size[i] = size[j] = std::exp2(3 * normal(random) / 2);
    mean[i] = 3 * normal(random), mean[j] = 3 * normal(random);
    calibration.q_energy.push_back(std::exp2(double(normal(random))));
    calibration.k_energy.push_back(2.0 * size[i] * size[i] + mean[i] * mean[i] + mean[j] * mean[j]);
    bits.push_back(uint8_t(1 + random() % 5));
  }
  calibration.k_mean.assign(mean.begin(), mean.end());
  calibration.v_mean.assign(mean.begin(), mean.end());
  HeadMap head;
  head.layout = layout;
  head.v_dim = dim;
  head.bits = head.product_bits = bits;
  head.calibration = &calibration;
  std::vector<float> x(n * dim);
  for (int t = 0; t < n; ++t)  // every third near zero
    for (int d = 0; d < dim; ++d)
      x[t * dim + d] = t % 3 ? mean[d] + size[d] * normal(random) : normal(random) / 8;

  for (const char* method : {"tq-mse", "block-gtq", "block-gtq-cb", "block-gtq-cb1", "tq-mse-cb"}) {
    INFO(method);
    const LinearQuantizer key(paged(make_key_quantizer(method, head)->linear_code().value()));
    const LinearQuantizer value(paged(make_value_quantizer("tq-mse-centred", head)->linear_code().value()));
    PackedSpec spec;
    spec.layout = layout;
    spec.inv_freq.assign(dim / 2, 1.0);
    spec.n_heads = 1;
    spec.key = {key.linear_code().value()};
    spec.value = {value.linear_code().value()};
    const PackedCache cache(spec);
    CHECK(cache.shape().bytes <= int((key.code_bytes() + value.code_bytes()) * kPagePositions));
    std::vector<uint8_t> page(cache.shape().bytes);
    std::vector<double> k(dim), v(dim);
    double k_error = 0, v_error = 0, k_energy = 0, v_energy = 0;
    const auto compare = [&](const Quantizer& quantizer, const float* row, const std::vector<double>& got,
                             double& error, double& energy) {
      std::vector<uint8_t> code(quantizer.code_bytes());
      std::vector<float> want(dim);
      quantizer.encode(row, 1, code.data());
      quantizer.decode(code.data(), 1, want.data());
      const std::vector<float> centre = quantizer.linear_code()->mean;  // of a temporary
      double whole = 0, less = 0;
      for (int d = 0; d < dim; ++d) {
        error += std::pow(got[d] - want[d], 2);
        whole += std::pow(want[d], 2);
        less += std::pow(want[d] - (centre.empty() ? 0.0f : centre[d]), 2);
      }
      energy += code[1] & 0x80 ? whole : less;
    };
    for (int t = 0; t < n; ++t) {
      cache.write(0, &x[t * dim], &x[t * dim], page.data());
      cache.read(0, page.data(), k.data(), v.data());
      compare(key, &x[t * dim], k, k_error, k_energy);
      compare(value, &x[t * dim], v, v_error, v_energy);
    }
    CHECK(std::sqrt(k_error / k_energy) < 9.2e-3);
    CHECK(std::sqrt(v_error / v_energy) < 9.2e-3);
  }
}
