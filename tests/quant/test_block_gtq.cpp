#include <cmath>
#include <numeric>
#include <vector>

#include "base/float16.h"
#include "base/parallel.h"
#include "catch.h"
#include "gaussian.h"
#include "quant/block_gtq.h"

#include "quant/group_order.h"
#include "quant/packing.h"
#include "quant/random.h"

using namespace blockgtq;
using test::gaussian;

namespace {

std::vector<uint8_t> encode(const Quantizer& quantizer, const std::vector<float>& x) {
  const size_t n = x.size() / quantizer.dim();
  std::vector<uint8_t> codes(n * quantizer.code_bytes(), 0xaa);  // encode must not rely on zeros
  quantizer.encode(x.data(), n, codes.data());
  return codes;
}

std::vector<float> round_trip(const Quantizer& quantizer, const std::vector<float>& x) {
  const auto codes = encode(quantizer, x);
  std::vector<float> y(x.size(), -99);
  quantizer.decode(codes.data(), x.size() / quantizer.dim(), y.data());
  return y;
}

double error(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
  return sum;
}

}  // namespace

TEST_CASE("the bytes of a code") {
  const BlockLayout layout{128, 128, Pairing::half};
  CHECK(UniformTqMse(128, 3).code_bytes() == 2 + 48);
  CHECK(BlockGtq(layout, std::vector<uint8_t>(64, 3)).code_bytes() == 2 + 48);
  // Three groups of 16, 32, 16 blocks at 2, 3, 4 bits: three norms and 64 * 2 * 3 bits.
  std::vector<uint8_t> bits(64, 3);
  for (int i = 0; i < 16; ++i) bits[i] = 4, bits[63 - i] = 2;
  const BlockGtq three(layout, bits);
  CHECK(three.n_groups() == 3);
  CHECK(three.code_bytes() == 6 + 48);
  // 2 * (1 + 3) bits fill one byte, 2 * (2 + 3) spill into a second one.
  CHECK(BlockGtq({4, 4, Pairing::half}, std::vector<uint8_t>{1, 3}).code_bytes() == 4 + 1);
  CHECK(BlockGtq({4, 4, Pairing::half}, std::vector<uint8_t>{2, 3}).code_bytes() == 4 + 2);
  CHECK(UniformTqMse(2, 1).code_bytes() == 2 + 1);
}

TEST_CASE("equal bits are TQ-MSE over the permuted coordinates") {
  for (const BlockLayout& layout :
       {BlockLayout{64, 64, Pairing::half}, BlockLayout{64, 64, Pairing::interleaved},
        BlockLayout{64, 32, Pairing::interleaved}, BlockLayout{64, 16, Pairing::half}}) {
    const int n = 300, d = 64, bits = 3;
    const auto x = gaussian(size_t(n) * d, 1);
    std::vector<int> order;
    for (const int b : group_order(std::vector<uint8_t>(d / 2, bits)))
      for (const int c : layout.coords(b)) order.push_back(c);
    std::vector<float> permuted(x.size());
    for (int t = 0; t < n; ++t)
      for (int j = 0; j < d; ++j) permuted[t * d + j] = x[t * d + order[j]];

    const BlockGtq block(layout, std::vector<uint8_t>(d / 2, bits), 42);
    const UniformTqMse uniform(d, bits, 42 + bits);
    CHECK(encode(block, x) == encode(uniform, permuted));
    const auto y = round_trip(block, x), z = round_trip(uniform, permuted);
    for (int t = 0; t < n; ++t)
      for (int j = 0; j < d; ++j) REQUIRE(y[t * d + order[j]] == z[t * d + j]);
  }
}

TEST_CASE("a code read by hand") {
  const BlockLayout layout{8, 8, Pairing::half};  // blocks (0, 4), (1, 5), (2, 6), (3, 7)
  const BlockGtq quantizer(layout, std::vector<uint8_t>{5, 2, 5, 1}, 42);
  const auto x = gaussian(8, 2);
  const auto code = encode(quantizer, x);
  REQUIRE(quantizer.n_groups() == 3);
  REQUIRE(code.size() == 6 + 4);  // 2 * (1 + 2 + 5 + 5) = 26 bits
  struct Group {
    int bits;
    std::vector<int> coords;
  };
  const Group groups[] = {{1, {3, 7}}, {2, {1, 5}}, {5, {0, 4, 2, 6}}};
  size_t offset = 48, norm_at = 0;
  for (const Group& g : groups) {
    const int d = int(g.coords.size());
    std::vector<float> part;
    for (const int c : g.coords) part.push_back(x[c]);
    std::vector<uint8_t> expected(d), found(d);
    uint16_t norm;
    TqMse(d, g.bits, 42 + g.bits).encode(part.data(), 1, expected.data(), &norm);
    CHECK(code[norm_at] == (norm & 0xff));
    CHECK(code[norm_at + 1] == norm >> 8);
    unpack_bits(code.data(), offset, g.bits, d, found.data());
    CHECK(found == expected);
    offset += size_t(d) * g.bits;
    norm_at += 2;
  }
  CHECK(code.back() >> 2 == 0);  // padding
}

TEST_CASE("eight groups of one block each") {
  const BlockLayout layout{16, 8, Pairing::interleaved};  // four rotary and four static blocks
  const BlockGtq quantizer(layout, std::vector<uint8_t>{8, 1, 7, 2, 6, 3, 5, 4}, 42);
  CHECK(quantizer.n_groups() == 8);
  CHECK(quantizer.code_bytes() == 16 + 9);  // 2 * 36 bits
  const auto x = gaussian(16 * 500, 3);
  const auto y = round_trip(quantizer, x);
  const auto block_error = [&](int b) {
    double sum = 0;
    for (size_t t = 0; t < 500; ++t)
      for (const int c : layout.coords(b))
        sum += (x[t * 16 + c] - y[t * 16 + c]) * (x[t * 16 + c] - y[t * 16 + c]);
    return sum;
  };
  CHECK(block_error(0) < block_error(3));  // 8 bits against 2
  CHECK(block_error(4) < block_error(1));  // 6 against 1
  CHECK(error(x, y) > 0);
}

TEST_CASE("every even head dimension up to 512 works, 514 and odd ones do not") {
  Random random(4);
  for (const int d : {2, 4, 6, 48, 80, 96, 512}) {
    std::vector<uint8_t> bits(d / 2);
    for (uint8_t& b : bits) b = uint8_t(1 + random.next_u64() % 8);
    const BlockGtq quantizer({d, d, Pairing::half}, bits);
    const auto x = gaussian(size_t(d) * 20, d);
    CHECK(error(x, round_trip(quantizer, x)) < error(x, std::vector<float>(x.size())));
  }
  CHECK_THROWS_AS(UniformTqMse(514, 3), std::logic_error);
  CHECK_THROWS_AS(UniformTqMse(0, 3), std::logic_error);
  CHECK_THROWS_AS(UniformTqMse(7, 3), std::logic_error);
  CHECK_THROWS_AS(UniformTqMse(8, 9), std::logic_error);
  CHECK_THROWS_AS(BlockGtq({514, 514, Pairing::half}, std::vector<uint8_t>(257, 3)), std::logic_error);
  CHECK_THROWS_AS(BlockGtq({8, 8, Pairing::half}, std::vector<uint8_t>(3, 3)), std::logic_error);
  CHECK_THROWS_AS(BlockGtq({4, 4, Pairing::half}, std::vector<uint8_t>{0, 3}), std::logic_error);
  CHECK_THROWS_AS(BlockGtq({4, 4, Pairing::half}, std::vector<uint8_t>{3, 9}), std::logic_error);
}

TEST_CASE("bits where the energy is beat equal bits") {
  // Four blocks hold 64 times the energy of the others' coordinates.
  const BlockLayout layout{64, 64, Pairing::half};
  auto x = gaussian(64 * 400, 5);
  for (size_t t = 0; t < 400; ++t)
    for (int b = 0; b < 4; ++b)
      for (const int c : layout.coords(b)) x[t * 64 + c] *= 8;
  std::vector<uint8_t> bits(32, 3);
  for (int b = 0; b < 4; ++b) bits[b] = 6;
  for (int b = 4; b < 16; ++b) bits[b] = 2;
  REQUIRE(std::accumulate(bits.begin(), bits.end(), 0) == 3 * 32);
  CHECK(error(x, round_trip(BlockGtq(layout, bits), x)) < 0.3 * error(x, round_trip(UniformTqMse(64, 3), x)));
}

TEST_CASE("codes of a batch are the codes of its vectors, for any number of threads") {
  const BlockLayout layout{128, 64, Pairing::half};
  std::vector<uint8_t> bits(64);
  for (int b = 0; b < 64; ++b) bits[b] = uint8_t(1 + b % 5);
  const BlockGtq quantizer(layout, bits);
  const size_t n = 513, d = 128, bytes = quantizer.code_bytes();
  const auto x = gaussian(n * d, 6);
  const auto whole = encode(quantizer, x);
  std::vector<uint8_t> single(whole.size());
  for (const int threads : {1, 3}) {
    set_threads(threads);
    parallel_for(n, [&](size_t t) { quantizer.encode(&x[t * d], 1, &single[t * bytes]); });
    CHECK(single == whole);
  }
  set_threads(0);
  quantizer.encode(nullptr, 0, nullptr);
  quantizer.decode(nullptr, 0, nullptr);
}

TEST_CASE("zero vectors and zero groups stay zero") {
  const BlockLayout layout{8, 8, Pairing::interleaved};
  const BlockGtq quantizer(layout, std::vector<uint8_t>{2, 2, 4, 4});
  const auto y = round_trip(quantizer, {0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0});
  for (const int i : {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15}) CHECK(y[i] == 0);
  CHECK(y[7] != 0);
}
