#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "catch.h"
#include "quant/allocate.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

// The definition, one bit at a time.
std::vector<uint8_t> brute_force(const std::vector<double>& energy, size_t total, int min_bits,
                                 int max_bits) {
  std::vector<uint8_t> bits(energy.size(), uint8_t(min_bits));
  for (size_t spent = energy.size() * min_bits; spent < total; ++spent) {
    int best = -1;
    for (size_t i = 0; i < energy.size(); ++i)
      if (bits[i] < max_bits &&
          (best < 0 || energy[i] * std::pow(4.0, -bits[i]) > energy[best] * std::pow(4.0, -bits[best])))
        best = int(i);
    ++bits[best];
  }
  return bits;
}

size_t sum(const std::vector<uint8_t>& bits) {
  return std::accumulate(bits.begin(), bits.end(), size_t(0));
}

Exit code_of(std::vector<double> energy, AllocateOptions options) {
  try {
    allocate_greedy(energy, options);
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.code;
  }
  return Exit::ok;
}

}  // namespace

TEST_CASE("the greedy allocator is the definition's loop") {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    const size_t n = 1 + random.next_u64() % 70;
    const int min_bits = 1 + int(random.next_u64() % 3),
              max_bits = min_bits + int(random.next_u64() % (9 - min_bits));
    std::vector<double> energy(n);
    // Powers of four among them: ties in energy * 4^-bits between different energies, and zeros.
    for (double& e : energy) {
      const uint64_t kind = random.next_u64() % 4;
      e = kind == 0   ? std::ldexp(1.0, 2 * int(random.next_u64() % 6))
          : kind == 1 ? 0
                      : std::exp(3 * random.standard_normal());
    }
    const size_t total = n * min_bits + random.next_u64() % (n * (max_bits - min_bits) + 1);
    const auto bits = allocate_greedy(energy, {double(total) / double(n), min_bits, max_bits});
    REQUIRE(bits == brute_force(energy, total, min_bits, max_bits));
    REQUIRE(sum(bits) == total);
  }
}

TEST_CASE("ties go to the lowest block") {
  CHECK(allocate_greedy(std::vector<double>(4, 1.0), {1.5, 1, 8}) == std::vector<uint8_t>{2, 2, 1, 1});
  // 4 at one bit is worth 4 * 4^-1 = 1, as 16 is at two.
  CHECK(allocate_greedy(std::vector<double>{4, 16}, {2, 1, 8}) == std::vector<uint8_t>{2, 2});
  CHECK(allocate_greedy(std::vector<double>(4, 0.0), {3, 1, 8}) == std::vector<uint8_t>{8, 2, 1, 1});
}

TEST_CASE("the published code stops where no block gains") {
  const auto published = [](const std::vector<double>& energy, double average) {
    return allocate_greedy(energy, {average, 1, 8, true});
  };
  CHECK(published(std::vector<double>(4, 0.0), 2) == std::vector<uint8_t>{1, 1, 1, 1});
  CHECK(allocate_greedy(std::vector<double>(4, 0.0), {2, 1, 8}) == std::vector<uint8_t>{5, 1, 1, 1});
  CHECK(published({0, 1, 0, 0}, 3) == std::vector<uint8_t>{1, 8, 1, 1});
  CHECK(published({0, 1, 0, 0}, 2) == std::vector<uint8_t>{1, 5, 1, 1});
  CHECK(published({16, 1, 4}, 2) == allocate_greedy(std::vector<double>{16, 1, 4}, {2, 1, 8}));
}

TEST_CASE("fractional averages hand out the floor, and no bit is lost to a decimal's rounding") {
  const std::vector<double> ten(10, 1.0), hundred(100, 1.0), three(3, 1.0);
  CHECK(sum(allocate_greedy(ten, {2.3, 1, 8})) == 23);
  CHECK(sum(allocate_greedy(hundred, {2.3, 1, 8})) == 230);
  CHECK(sum(allocate_greedy(hundred, {1.1, 1, 8})) == 110);
  CHECK(sum(allocate_greedy(hundred, {4.35, 1, 8})) == 435);  // 100 * 4.35 is 434.99999999999994 in double
  CHECK(sum(allocate_greedy(three, {2.5, 1, 8})) == 7);
  CHECK(sum(allocate_greedy(three, {2.6666, 1, 8})) == 7);
  for (int tenths = 10; tenths <= 80; ++tenths)
    CHECK(sum(allocate_greedy(ten, {tenths / 10.0, 1, 8})) == size_t(tenths));
}

TEST_CASE("the ends of the range, and what lies beyond") {
  const std::vector<double> e = {3, 2, 1};
  CHECK(allocate_greedy(e, {1, 1, 8}) == std::vector<uint8_t>{1, 1, 1});
  CHECK(allocate_greedy(e, {8, 1, 8}) == std::vector<uint8_t>{8, 8, 8});
  CHECK(allocate_greedy(e, {4, 4, 4}) == std::vector<uint8_t>{4, 4, 4});
  CHECK(allocate_greedy({}, {3, 1, 8}).empty());
  CHECK(code_of(e, {std::nextafter(1.0, 0.0), 1, 8}) == Exit::usage);
  CHECK(code_of(e, {std::nextafter(8.0, 9.0), 1, 8}) == Exit::usage);
  CHECK(code_of(e, {3, 4, 8}) == Exit::usage);
  CHECK(code_of(e, {3, 1, 2}) == Exit::usage);
  CHECK(code_of(e, {std::nan(""), 1, 8}) == Exit::usage);
  CHECK(code_of(e, {3, 0, 8}) == Exit::usage);
  CHECK(code_of(e, {3, 1, 9}) == Exit::usage);
  CHECK(code_of(e, {3, 5, 4}) == Exit::usage);
}

TEST_CASE("energies that are none") {
  CHECK(code_of({1, std::nan(""), 1}, {3, 1, 8}) == Exit::nonfinite);
  CHECK(code_of({1, std::numeric_limits<double>::infinity()}, {3, 1, 8}) == Exit::nonfinite);
  CHECK(code_of({1, -1e-300}, {3, 1, 8}) == Exit::input);
  CHECK(code_of({-0.0, 0.0}, {3, 1, 8}) == Exit::ok);
}

TEST_CASE("the published allocation of every layer's first head") {
  const Json known =
      read_json(std::filesystem::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/published.json", 1 << 20);
  REQUIRE(known["allocations"].size() == 30);
  for (const Json& layer : known["allocations"]) {
    INFO(layer["model"] << " layer " << layer["layer"]);
    const auto energy = layer["energy"].get<std::vector<float>>();  // written as float32
    CHECK(allocate_greedy(std::vector<double>(energy.begin(), energy.end()), {3, 1, 8}) ==
          layer["bits"].get<std::vector<uint8_t>>());
  }
}
