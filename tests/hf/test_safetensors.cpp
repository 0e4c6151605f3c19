#include <cstring>
#include <ctime>
#include <random>

#include "base/error.h"
#include "catch.h"
#include "hf/safetensors.h"
#include "safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

const std::string kGood = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

std::string one(const std::string& entry) {
  return "{\"a\":" + entry + "}";
}

/// The error of reading these bytes; empty when there is none. Anything but Error fails the test.
std::string error_of(const TempDir& dir, const std::string& bytes) {
  const fs::path path = dir / "t.safetensors";
  write_bytes(path, bytes);
  try {
    read_safetensors(MappedFile(path));
    return "";
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    const std::string what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    CHECK_THAT(what, ContainsSubstring("t.safetensors"));
    return what;
  }
}

}  // namespace

TEST_CASE("safetensors: a true file reads back", "[safetensors]") {
  TempDir dir;
  const float values[3] = {1.5f, -2.0f, 3.25f};
  const std::string f32(reinterpret_cast<const char*>(values), sizeof values);
  const std::string half("\x00\x3c\x00\xc0", 4);  // 1, -2
  SafetensorsBuilder b;
  b.add("odd", "U8", {1}, "x");  // everything behind it lies at an odd byte
  b.add("w", "F32", {3, 1}, f32);
  b.add("h", "F16", {2}, half);
  b.add_bf16("m", {4, 2}, 0x4000);                          // 2
  b.add("scalar", "BF16", {}, std::string("\x80\xbf", 2));  // -1
  b.add("empty", "F32", {0, 5}, "");
  b.header()["__metadata__"] = {{"format", "pt"}};
  b.write(dir / "t.safetensors");
  const MappedFile file(dir / "t.safetensors");
  const std::vector<Tensor> tensors = read_safetensors(file);
  REQUIRE(tensors.size() == 6);
  const auto find = [&](const std::string& n) -> const Tensor& {
    for (const Tensor& t : tensors) {
      if (t.name == n) return t;
    }
    throw std::runtime_error("no tensor " + n);
  };

  const Tensor& w = find("w");
  CHECK(w.dtype == DType::f32);
  CHECK(w.dtype_name == "F32");
  CHECK(w.shape == std::vector<int64_t>{3, 1});
  CHECK(w.elements() == 3);
  float out[8] = {};
  w.read(0, 3, out);
  CHECK(std::memcmp(out, values, sizeof values) == 0);
  w.read(2, 1, out);
  CHECK(out[0] == 3.25f);
  w.rows(1, 2).read(0, 2, out);
  CHECK(out[0] == -2.0f);
  CHECK(w.rows(1, 2).shape == std::vector<int64_t>{2, 1});
  CHECK(w.rows(3, 0).elements() == 0);
  CHECK_THROWS_AS(w.rows(2, 2), std::logic_error);
  CHECK_THROWS_AS(w.read(2, 2, out), std::logic_error);

  find("h").read(0, 2, out);
  CHECK(out[0] == 1.0f);
  CHECK(out[1] == -2.0f);
  const Tensor& m = find("m");
  m.read(0, 8, out);
  for (float v : out) CHECK(v == 2.0f);
  CHECK(m.rows(1, 2).data.size() == 8);
  CHECK(m.rows(1, 2).data.data() == m.data.data() + 4);
  find("scalar").read(0, 1, out);
  CHECK(out[0] == -1.0f);
  CHECK(find("scalar").elements() == 1);
  CHECK(find("empty").elements() == 0);
  CHECK(find("empty").data.empty());
  CHECK(find("odd").dtype == DType::other);
  CHECK_THROWS_AS(find("odd").read(0, 1, out), std::logic_error);
  CHECK(std::string(name(DType::bf16)) == "BF16");
}

TEST_CASE("safetensors: long reads cross the conversion blocks", "[safetensors]") {
  TempDir dir;
  constexpr int64_t n = 2500;  // over two blocks of 1024
  std::string bytes;
  for (int64_t i = 0; i < n; ++i) {
    const float v = float(i % 128);  // exact in bf16
    uint32_t bits;
    std::memcpy(&bits, &v, 4);
    bytes += {char(bits >> 16 & 0xff), char(bits >> 24)};
  }
  SafetensorsBuilder().add("t", "BF16", {n}, bytes).write(dir / "t.safetensors");
  const MappedFile file(dir / "t.safetensors");
  const std::vector<Tensor> tensors = read_safetensors(file);
  std::vector<float> out(n);
  tensors[0].read(0, n, out.data());
  for (int64_t i = 0; i < n; ++i) REQUIRE(out[size_t(i)] == float(i % 128));
  tensors[0].read(1000, 1100, out.data());
  for (int64_t i = 0; i < 1100; ++i) REQUIRE(out[size_t(i)] == float((i + 1000) % 128));
}

TEST_CASE("safetensors: types that are not read are kept, with their sizes", "[safetensors]") {
  TempDir dir;
  const std::pair<const char*, int> types[] = {{"BOOL", 8},    {"U8", 8},      {"I8", 8},   {"U16", 16},
                                               {"I16", 16},    {"U32", 32},    {"I32", 32}, {"U64", 64},
                                               {"I64", 64},    {"F64", 64},    {"C64", 64}, {"F8_E4M3", 8},
                                               {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F4", 4}};
  for (const auto& [type, bits] : types) {
    INFO(type);
    SafetensorsBuilder good, bad;
    good.add("t", type, {8}, std::string(size_t(bits), 'x'));
    bad.add("t", type, {8}, std::string(size_t(bits) + 1, 'x'));
    good.write(dir / "g.safetensors");
    const std::vector<Tensor> tensors = read_safetensors(MappedFile(dir / "g.safetensors"));
    CHECK(tensors[0].dtype == DType::other);
    CHECK(tensors[0].dtype_name == type);
    CHECK_THAT(error_of(dir, bad.bytes()), ContainsSubstring("dtype and shape say"));
  }
}

TEST_CASE("safetensors: every lie of a header is named", "[safetensors]") {
  TempDir dir;
  const std::string d8(8, '\0'), d16(16, '\0');
  const auto two = [](const std::string& r1, const std::string& r2) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + r1 +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + r2 + "}}";
  };
  struct Case {
    std::string bytes, message;
  };
  const std::vector<Case> cases = {
      {"", "0 bytes"},
      {"1234567", "7 bytes"},
      {raw_safetensors("", ""), "does not begin with {"},
      {raw_safetensors("[]", ""), "does not begin with {"},
      {raw_safetensors(" " + kGood, d8), "does not begin with {"},
      {std::string(8, '\xff'), "too long"},
      {std::string("\x01\0\0\0\0\0\0\0", 8), "ends past the file's 8 bytes"},
      {raw_safetensors(kGood, d8).substr(0, 20), "ends past the file's 20 bytes"},
      {raw_safetensors("{\"a\":", ""), "header"},
      {raw_safetensors(kGood + "x", d8), "header"},
      {raw_safetensors("{\"a\xff\":1}", ""), "header"},
      {raw_safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)" + kGood.substr(1), d8),
       "\"a\""},
      {raw_safetensors(one(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), d8),
       "dtype"},
      {raw_safetensors(one("3"), d8), "expected an object, found 3"},
      {raw_safetensors(one("null"), d8), "expected an object, found null"},
      {raw_safetensors(one(R"({"shape":[2],"data_offsets":[0,8]})"), d8), "dtype: missing"},
      {raw_safetensors(one(R"({"dtype":"F32","data_offsets":[0,8]})"), d8), "shape: missing"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2]})"), d8), "data_offsets: missing"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"), d8),
       "unknown key \"x\""},
      {raw_safetensors(one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"), d8), "\"F33\" is not"},
      {raw_safetensors(one(R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})"), d8), "32 is not"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), d8), "expected a list"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), d8), "found -2"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), d8), "found 2.0"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), d8), "found \"2\""},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[true],"data_offsets":[0,8]})"), d8), "found true"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"), d8),
       "found 9223372036854775808"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})"), d8), "3 numbers"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), d8), "1 numbers"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[-1,7]})"), d8), "found -1"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8.0]})"), d8), "found 8.0"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), d8), "behind its end"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), d8.substr(1)),
       "past the file's 7"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[1,9]})"), d8), "past the file's 8"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), d8),
       "8 bytes, dtype and shape say 12"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"), d8),
       "overflows"},
      // 2^62 elements fit, their bits do not
      {raw_safetensors(one(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})"), ""),
       "overflows"},
      {raw_safetensors(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})"), "x"), "whole bytes"},
      {raw_safetensors(two("[0,8]", "[4,12]"), d16), "inside tensor \"a\""},
      {raw_safetensors(two("[0,8]", "[0,8]"), d8), "inside tensor \"a\""},
      {raw_safetensors(two("[8,16]", "[0,8]") + " ", d16 + "x"), "1 bytes behind the last tensor"},
      {raw_safetensors(two("[0,8]", "[9,17]"), d16 + "x"), "hole of 1 bytes"},
      {raw_safetensors(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,16]})"), d16), "hole of 8 bytes"},
      {raw_safetensors("{}", "x"), "1 bytes behind"},
      {raw_safetensors(R"({"__metadata__":3})", ""), "__metadata__"},
      {raw_safetensors(R"({"__metadata__":{"k":3}})", ""), "__metadata__: \"k\""},
      {raw_safetensors(R"({"__metadata__":{"k":null}})", ""), "__metadata__: \"k\""},
      {raw_safetensors(R"({"a\nb":3})", ""), R"("a\nb")"},
  };
  for (const Case& c : cases) {
    INFO(c.bytes.substr(0, 200));
    CHECK_THAT(error_of(dir, c.bytes), ContainsSubstring(c.message));
  }
}

TEST_CASE("safetensors: what is allowed though unusual", "[safetensors]") {
  TempDir dir;
  CHECK(error_of(dir, raw_safetensors("{}", "")) == "");
  CHECK(error_of(dir, raw_safetensors(R"({"__metadata__":{}})", "")) == "");
  CHECK(error_of(dir, raw_safetensors(kGood + "   ", std::string(8, 'x'))) ==
        "");  // padding behind the header
  // out of order in the header; two empty tensors at one place
  CHECK(error_of(dir, raw_safetensors(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                                      R"("e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},)"
                                      R"("f":{"dtype":"F32","shape":[7,0],"data_offsets":[1,1]},)"
                                      R"("a":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}})",
                                      "xy")) == "");
}

TEST_CASE("safetensors: the header's limit of 100 MB", "[safetensors]") {
  TempDir dir;
  for (const uint64_t length : {kMaxSafetensorsHeader, kMaxSafetensorsHeader + 1}) {
    const fs::path path = dir / "big.safetensors";
    std::string start = raw_safetensors("", "");
    for (int i = 0; i < 8; ++i) start[size_t(i)] = char(length >> (8 * i) & 0xff);
    write_bytes(path, start + "{");
    fs::resize_file(path, 8 + length);  // sparse: zeros behind the brace
    try {
      read_safetensors(MappedFile(path));
      FAIL("accepted");
    } catch (const Error& e) {
      const bool too_long = std::string(e.what()).find("too long") != std::string::npos;
      CHECK(too_long == (length > kMaxSafetensorsHeader));  // at the limit it is read, and is not JSON
    }
  }
}

TEST_CASE("safetensors: 30,000 tensors", "[safetensors]") {
  TempDir dir;
  std::string header = "{", data;
  for (int i = 0; i < 30000; ++i) {
    header += (i ? "," : "") +
              ("\"model.layers." + std::to_string(i / 300) + ".mlp.experts." + std::to_string(i % 300)) +
              R"(.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[)" + std::to_string(4 * i) + "," +
              std::to_string(4 * i + 4) + "]}";
    data += "abcd";
  }
  write_bytes(dir / "t.safetensors", raw_safetensors(header + "}", data));
  const MappedFile file(dir / "t.safetensors");
  const std::clock_t start = std::clock();
  CHECK(read_safetensors(file).size() == 30000);
  const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  INFO(seconds << " s");
  CHECK(seconds < 2.0);  // linear work over 3 MB of JSON; over pairs of names it would be half a minute
}

TEST_CASE("safetensors: truncated and mutated files never do worse than an error", "[safetensors]") {
  TempDir dir;
  SafetensorsBuilder b;
  b.add_bf16("layers.0.weight", {3, 2})
      .add("n", "F32", {2}, std::string(8, '\1'))
      .add("i", "I64", {}, std::string(8, '\2'));
  b.header()["__metadata__"] = {{"format", "pt"}};
  const std::string good = b.bytes();
  CHECK(error_of(dir, good) == "");
  for (size_t n = 0; n < good.size(); ++n) {
    INFO("cut to " << n);
    CHECK(error_of(dir, good.substr(0, n)) != "");
  }
  const size_t header_end = good.size() - 12 - 8 - 8;
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = good;
    bytes[random() % header_end] = char(random() % 256);
    if (!error_of(dir, bytes).empty()) ++refused;
  }
  CHECK(refused > 1000);  // most single bytes matter
}
