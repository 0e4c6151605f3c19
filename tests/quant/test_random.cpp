#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "catch.h"
#include "quant/random.h"
#include "quant/ziggurat.h"

using namespace blockgtq;

namespace {

namespace fs = std::filesystem;

template <class T>
std::string hash(const T& values) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(values)));
  return sha.hex();
}

std::vector<double> normals(uint64_t seed, size_t n) {
  Random random(seed);
  std::vector<double> x(n);
  for (double& v : x) v = random.standard_normal();
  return x;
}

}  // namespace

// Hashes of numpy's ki_double, wi_double, fi_double (little-endian bytes), read out of numpy 2's library.
TEST_CASE("the ziggurat's tables are numpy's, bit for bit") {
  const Ziggurat& z = ziggurat();
  CHECK(hash(z.accept) == "565295797825931547a1036f5b012a247be54abbe077c39fe06c8ed1e9d0a5a9");
  CHECK(hash(z.scale) == "33c6472209e1d09ea3548f0291e5e1ad67fb4f1d0305e9f1086689584b7bb7fa");
  CHECK(hash(z.density) == "acd898d9d87e212f657755ba43b21e40958090a7ff2103c9e79f4ea1b0fe2bc5");
}

// default_rng(seed).bit_generator.random_raw(2), .standard_normal(2) and .random(): one and two words of
// entropy.
TEST_CASE("default_rng of any 64-bit seed") {
  struct Known {
    uint64_t seed, raw[2];
    double normal[2], uniform;
  };
  const Known known[] = {
      {0xffffffff,
       {0x407f5fa930d8fd9f, 0x3814b22eb9684802},
       {-0.027271763074256376, 0.2153539268318988},
       0.2519435680449965},
      {0x100000000,
       {0xe3c5ebe285ac1625, 0x8ea09968fe31dbcc},
       {0.10296768001436127, -0.9805271710302613},
       0.8897387912781343},
      {0x10000000005,
       {0x1369aef039fedeb, 0x5f61b40473314316},
       {-0.09818552148928854, -0.6994306412054528},
       0.004739459374490829},
      {0xffffffffffffffff,
       {0xae163a7a8c47568f, 0xd86659f5f3382359},
       {0.7213364570768727, -0.9707961689465133},
       0.6800266789616931},
  };
  for (const Known& k : known) {
    INFO("seed " << k.seed);
    Random raw(k.seed), normal(k.seed), uniform(k.seed);
    for (const uint64_t word : k.raw) CHECK(raw.next_u64() == word);
    for (const double x : k.normal) CHECK(normal.standard_normal() == x);
    CHECK(uniform.next_double() == k.uniform);
  }
}

TEST_CASE("the raw words of seed 42") {
  Random random(42);
  for (const uint64_t word :
       {0xc621fbcd16d92688u, 0x705a5661a791ffc1u, 0xdbcd12c26eda1624u, 0xb286b60e1600888du,
        0x181c01b5339381ebu, 0xf9c262ed86c7538cu, 0xc2da0d2fbc5a4471u, 0xc93b82a3b7ac9740u})
    CHECK(random.next_u64() == word);
}

// sha256 of default_rng(seed).standard_normal(4096), little-endian float64.
TEST_CASE("4096 standard normals of several seeds") {
  CHECK(hash(normals(0, 4096)) == "0aa947cff2e6ca729d80e01c3fdaa3944c384c31d8730941131a86999933ee2c");
  CHECK(hash(normals(42, 4096)) == "4e1a41e41de023820dc094a4548fba911e3674438c1fca8453da8b4431a9f682");
  CHECK(hash(normals(45, 4096)) == "c9d4b5c5a950e7f0a17d4a96dccd84b4b0d01d81721f35afbd5b7477c78e73d4");
  CHECK(hash(normals(1000, 4096)) == "2d105d5e675396a4f4472ecfbe1f6db98fbdd6c0c0fb6a5954876e1e892e3e6a");
}

// Long enough for every layer's wedge and for 523 values in the tail.
TEST_CASE("two million standard normals of seed 42") {
  const std::vector<double> x = normals(42, 2000000);
  CHECK(hash(x) == "15a87d6e5fde8a33c6c282aa4edc0ee789358e794f73264b85b1ce3b01b30d00");
  size_t tail = 0;
  for (const double v : x) tail += std::abs(v) > Ziggurat::kTail;
  CHECK(tail == 523);
  CHECK(x[1302089] == -5.085743453373197);
  CHECK(x[42665] == 5.0072352319089966);
}

// golden/make_numpy_random.py; numpy's own tests have the same words for seeds 0 and 0xdeadbeaf.
TEST_CASE("numpy's words and normals of many seeds") {
  const Json known = read_json(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/numpy_random.json", 1 << 20);
  REQUIRE(known["streams"].size() == 18);
  for (const Json& entry : known["streams"]) {
    const uint64_t seed = entry["seed"];
    INFO("seed " << seed);
    REQUIRE(entry["words"].size() == 20);
    REQUIRE(entry["normals"].size() == 8);
    Random raw(seed), normal(seed);
    for (const Json& word : entry["words"]) CHECK(raw.next_u64() == word.get<uint64_t>());
    for (const Json& x : entry["normals"]) CHECK(normal.standard_normal() == x.get<double>());
  }
  REQUIRE(known["rotations"].size() == 168);
  for (const Json& entry : known["rotations"]) {
    const size_t d = entry["d"];
    CHECK(hash(normals(entry["seed"], d * d)) == entry["sha256"].get<std::string>());
  }
}
