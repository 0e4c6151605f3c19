#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "catch.h"

using namespace blockgtq;

TEST_CASE("the text of our JSON files") {
  Json value;
  value["schema"] = "blockgtq.test/1";
  value["b"] = 3;
  value["a"] = 0.1;  // order of insertion, not of the alphabet
  value["list"] = {1, 2.5, -3};
  value["names"] = {"x", "Ä\n\"\\"};
  value["empty"] = Json::object();
  value["none"] = Json::array();
  value["layers"] = Json::array({{{"layer", 0}, {"mae", {1.0, -0.0}}}});
  value["yes"] = true;
  value["nothing"] = nullptr;
  CHECK(dump_json(value) ==
        "{\n"
        "  \"schema\": \"blockgtq.test/1\",\n"
        "  \"b\": 3,\n"
        "  \"a\": 0.10000000000000001,\n"
        "  \"list\": [1, 2.5, -3],\n"
        "  \"names\": [\n"
        "    \"x\",\n"
        "    \"Ä\\n\\\"\\\\\"\n"
        "  ],\n"
        "  \"empty\": {},\n"
        "  \"none\": [],\n"
        "  \"layers\": [\n"
        "    {\n"
        "      \"layer\": 0,\n"
        "      \"mae\": [1.0, -0.0]\n"
        "    }\n"
        "  ],\n"
        "  \"yes\": true,\n"
        "  \"nothing\": null\n"
        "}\n");
  CHECK(parse_json(dump_json(value), "x") == value);
}

TEST_CASE("doubles read back bit for bit, as doubles") {
  using Limits = std::numeric_limits<double>;
  Json list = {0.0,
               -0.0,
               1.0,
               1e15,
               1e16,
               1e17,
               1e300,
               0.1,
               1.0 / 3,
               Limits::max(),
               Limits::min(),
               Limits::lowest(),
               Limits::denorm_min(),
               123456789012345678.0};
  std::mt19937_64 random(1);
  while (list.size() < 10000) {
    const double v = std::bit_cast<double>(uint64_t(random()));
    if (std::isfinite(v)) list.push_back(v);
  }
  const Json back = parse_json(dump_json(list), "x");
  size_t wrong = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    wrong += !back[i].is_number_float() ||
             std::bit_cast<uint64_t>(back[i].get<double>()) != std::bit_cast<uint64_t>(list[i].get<double>());
  }
  CHECK(wrong == 0);
}

TEST_CASE("integers stay integers") {
  const Json list = {0, -1, std::numeric_limits<int64_t>::min(), std::numeric_limits<uint64_t>::max()};
  CHECK(dump_json(list) == "[0, -1, -9223372036854775808, 18446744073709551615]\n");
  CHECK(parse_json(dump_json(list), "x") == list);
}

TEST_CASE("what JSON cannot say") {
  for (const double v :
       {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(dump_json(Json(v)), std::logic_error);
    CHECK_THROWS_AS(dump_json(Json{{"a", {v}}}), std::logic_error);
  }
  CHECK_THROWS_AS(dump_json(Json::binary({1, 2})), std::logic_error);
  // A file name need not be UTF-8.
  CHECK(dump_json(Json("a\xff")) == "\"a\xef\xbf\xbd\"\n");
}
