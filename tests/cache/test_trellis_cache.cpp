#include "cache/trellis_cache.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "catch.h"
#include "quant/linear_quantizer.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("trellis pages: every bit of every position has a place of its own", "[cache][trellis]") {
  for (const int dim : {64, 128})
    for (int bits = 2; bits <= 4; ++bits)
      for (const bool keys : {true, false}) {
        std::vector<int> used(8 * trellis_code_bytes(dim, bits));
        for (int position = 0; position < kPagePositions; ++position)
          for (int at = 0; at < dim * bits; ++at) {
            const int bit = trellis_bit(dim, bits, keys, position, at);
            REQUIRE((bit >= 0 && bit < int(used.size())));
            ++used[bit];
            // Bytes of a stream stay together: what the encoder writes at once.
            REQUIRE(bit == trellis_bit(dim, bits, keys, position, at / 8 * 8) + at % 8);
          }
        REQUIRE(std::all_of(used.begin(), used.end(), [](int n) { return n == 1; }));
        REQUIRE(trellis_side_bytes(dim, bits) % 16 == 0);
      }
}

TEST_CASE("trellis cache: a position comes back, its neighbours stay", "[cache][trellis]") {
  for (const auto& c : {test::trellis_case(64, 4, 2, 2, 3), test::trellis_case(128, 2, 1, 3, 3, true),
                        test::trellis_case(64, 4, 2, 4, 2, true), test::trellis_case(128, 4, 2, 4, 4)}) {
    const TrellisCache cache(test::packed_spec(c, 7));
    const int n = 2 * kPagePositions, width = c.n_kv_heads * c.dim;
    const test::Tokens tokens = test::random_tokens(cache.spec(), n, 11);
    std::vector<std::vector<uint8_t>> pages(2, std::vector<uint8_t>(cache.page_bytes(), 0x55));
    std::vector<double> k(width), v(width), k_before(width), v_before(width);
    for (int t = 0; t < n; ++t) {
      const int other = (t + 37) % n;
      cache.read(other, pages[other / kPagePositions].data(), k_before.data(), v_before.data());
      cache.write(t, &tokens.k[size_t(t) * width], &tokens.v[size_t(t) * width],
                  pages[t / kPagePositions].data());
      cache.read(other, pages[other / kPagePositions].data(), k.data(), v.data());
      REQUIRE(k == k_before);
      REQUIRE(v == v_before);
    }
    std::vector<double> error(2), energy(2);
    for (int t = 0; t < n; ++t) {
      cache.read(t, pages[t / kPagePositions].data(), k.data(), v.data());
      for (int h = 0; h < c.n_kv_heads; ++h) {
        const std::vector<double> means[] = {key_mean(cache.spec(), h, t), value_mean(cache.spec(), h)};
        for (int side = 0; side < 2; ++side) {
          const float* const x = &(side ? tokens.v : tokens.k)[size_t(t) * width + h * c.dim];
          const double* const got = &(side ? v : k)[h * c.dim];
          double whole = 0, less = 0;  // the shorter one is coded: these codes turn and do not scale
          for (int d = 0; d < c.dim; ++d) {
            error[side] += std::pow(got[d] - x[d], 2);
            whole += std::pow(x[d], 2);
            less += std::pow(x[d] - means[side][d], 2);
          }
          energy[side] += std::min(whole, less);
        }
      }
    }
    // On normal numbers 0.0758, 0.0197 and 0.0054 (tests/tools/train_trellis). Of 16384 coordinates, whose
    // squared errors are off by about as much as they are, the mean has a standard deviation of 1 %.
    const double distortion[] = {0.0758, 0.0197, 0.0054};
    for (int side = 0; side < 2; ++side)
      CHECK(error[side] / energy[side] < 1.05 * distortion[(side ? c.value_bits : c.bits) - 2]);
  }
}

TEST_CASE("trellis cache: what the quantizer of the same table gives", "[cache][trellis]") {
  // Position 0, where RoPE does nothing. Either rounds a norm to fp16, once: 2^-11 of a vector each.
  for (const int dim : {64, 128})
    for (int bits = 2; bits <= 4; ++bits) {
      INFO("dimension " << dim << ", bits " << bits);
      const TrellisCache cache(test::packed_spec(test::trellis_case(dim, 1, 1, bits, bits, true), 3));
      std::vector<LinearQuantizer> quantizers;
      for (LinearCode code : {cache.spec().key[0], cache.spec().value[0]}) {
        const TrellisTable table = TrellisBytes(code.groups[0]).table();
        code.groups[0].centroids.assign(table.begin(), table.end());
        quantizers.emplace_back(code);
      }
      const test::Tokens tokens = test::random_tokens(cache.spec(), 64, 5);
      std::vector<uint8_t> page(cache.page_bytes());
      std::vector<double> got[2] = {std::vector<double>(dim), std::vector<double>(dim)};
      for (int t = 0; t < 64; ++t) {
        const float* rows[2] = {&tokens.k[size_t(t) * dim], &tokens.v[size_t(t) * dim]};
        cache.write(0, rows[0], rows[1], page.data());
        cache.read(0, page.data(), got[0].data(), got[1].data());
        for (int side = 0; side < 2; ++side) {
          const LinearQuantizer& quantizer = quantizers[side];
          std::vector<uint8_t> code(quantizer.code_bytes());
          std::vector<float> want(dim);
          quantizer.encode(rows[side], 1, code.data());
          quantizer.decode(code.data(), 1, want.data());
          double error = 0, whole = 0, less = 0;
          const std::vector<float> mean = quantizer.linear_code()->mean;
          for (int d = 0; d < dim; ++d) {
            error += std::pow(got[side][d] - want[d], 2);
            whole += std::pow(rows[side][d], 2);
            less += std::pow(rows[side][d] - double(mean[d]), 2);
          }
          REQUIRE(std::sqrt(error / std::min(whole, less)) < 0x1.01p-10);
        }
      }
    }
}

TEST_CASE("trellis cache: bytes for centroids", "[cache][trellis]") {
  for (int bits = 2; bits <= 4; ++bits) {
    const LinearCode code = with_trellis(test::linear_code(128, {{128, bits}}, true, 1));
    const TrellisBytes bytes(code.groups[0]);
    int most = 0;
    for (int i = 0; i < kTrellisStates; ++i) {
      most = std::max(most, std::abs(int(bytes.bytes[i])));
      CHECK(std::abs(bytes.unit * bytes.bytes[i] - code.groups[0].centroids[i]) <= 0.5001 * bytes.unit);
    }
    CHECK(most == 127);
  }
}

TEST_CASE("trellis cache: what pages have no place for", "[cache][trellis]") {
  const auto refused = [](const PackedSpec& spec, const std::string& why) {
    try {
      const TrellisCache cache(spec);
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(std::string(e.what()) == "trellis codes in pages: " + why);
    }
  };
  refused(test::packed_spec(test::trellis_case(96, 2, 1, 3, 3), 1),
          "head dimension 96: 64 or 128 is expected");
  refused(test::packed_spec(test::trellis_case(128, 2, 1, 3, 5), 1), "5 bits: 2 to 4 are expected");
  refused(test::packed_spec({128, 2, 1}, 1), "one group of all coordinates is expected");
  test::CacheCase mixed;
  mixed.groups = 2, mixed.trellis = true;
  refused(test::packed_spec(mixed, 1), "one group of all coordinates is expected");
  PackedSpec spec = test::packed_spec(test::trellis_case(64, 4, 2, 3, 3), 1);
  spec.key[1] = with_trellis(test::linear_code(64, {{64, 2}}, true, 1));
  refused(spec, "as many bits in all heads are expected");
  spec = test::packed_spec(test::trellis_case(64, 4, 2, 3, 3), 1);
  spec.value[0].fallback = std::make_shared<LinearCode>(spec.value[1]);
  refused(spec, "no fallback is expected");
  spec = test::packed_spec(test::trellis_case(64, 4, 2, 3, 3), 1);
  spec.key[0].centres.assign(2 * 64, 1);
  spec.key[0] = paged(spec.key[0]);
  refused(spec, "keys without centres are expected");
}
