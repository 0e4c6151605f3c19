// The container: true files, and a table of bad ones.
#include "hf/gguf.h"

#include <functional>

#include "base/error.h"
#include "catch.h"
#include "hf/gguf_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

GgufBuilder small() {
  GgufBuilder b;
  b.text("general.architecture", "llama").integer("llama.block_count", 2).number("eps", 1e-5f);
  b.tensor("a", {2, 32}, 2, std::string(36, 'a')).tensor("b", {3}, 0, std::string(12, 'b'));
  return b;
}

/// The error of reading these bytes; empty when there is none. Anything but Error fails the test.
std::string error_of(const TempDir& dir, const std::string& bytes) {
  const fs::path path = dir / "t.gguf";
  write_bytes(path, bytes);
  try {
    read_gguf(MappedFile(path));
    return "";
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    const std::string what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    CHECK_THAT(what, ContainsSubstring("t.gguf: "));
    return what;
  }
}

struct Bad {
  std::string bytes, says;
};

/// A good file with one thing changed.
Bad changed(const std::function<void(GgufBuilder&)>& change, const std::string& says) {
  GgufBuilder b = small();
  change(b);
  return {b.bytes(), says};
}

}  // namespace

TEST_CASE("gguf: a true file reads back", "[gguf]") {
  TempDir dir;
  for (const uint32_t version : {2u, 3u}) {
    for (const uint64_t alignment : {8u, 32u, 4096u}) {
      GgufBuilder b = small();
      b.version = version;
      b.alignment = alignment;
      if (alignment != 32) b.integer("general.alignment", uint32_t(alignment));
      b.set("u8", 0, raw(uint8_t(200))).set("i8", 1, raw(int8_t(-7))).set("u16", 2, raw(uint16_t(65535)));
      b.set("i16", 3, raw(int16_t(-300))).set("i32", 5, raw(int32_t(-70000))).set("f64", 12, raw(0.1));
      b.set("u64", 10, raw(UINT64_MAX)).set("i64", 11, raw(int64_t(-1) << 40)).flag("yes", true);
      b.texts("words", {"", "zwei", "\u4e09"}).array<int32_t>("same", 5, {3, 3, 3});
      b.array<float>("floats", 6, {1.5f, -2}).array<int32_t>("none", 5, {});
      b.write(dir / "t.gguf");
      const MappedFile file(dir / "t.gguf");
      const GgufFile got = read_gguf(file);
      CHECK(got.version == version);
      CHECK(got.data_offset % alignment == 0);
      const GgufMetadata& m = got.metadata;
      CHECK(m.text("general.architecture", "") == "llama");
      CHECK(m.integer("llama.block_count", 1, 2) == 2);
      CHECK(m.number("eps") == 1e-5);  // not the float beside it
      CHECK(m.number("f64") == 0.1);
      CHECK(m.integer("u8", 0, 1000) == 200);
      CHECK(m.integer("i8", -10, 10) == -7);
      CHECK(m.integer("u16", 0, 65535) == 65535);
      CHECK(m.integer("i16", -300, 0) == -300);
      CHECK(m.integer("i32", -70000, 0) == -70000);
      CHECK(m.integer("i64", INT64_MIN, 0) == int64_t(-1) << 40);
      CHECK(m.integer("same", 0, 9) == 3);
      CHECK(m.flag("yes", false));
      CHECK(m.texts("words") == std::vector<std::string_view>{"", "zwei", "\u4e09"});
      CHECK(m.numbers("floats") == std::vector<float>{1.5f, -2});
      CHECK(m.integers("none").empty());
      CHECK(!m.number("absent"));
      REQUIRE(got.tensors.size() == 2);
      CHECK(got.tensors[0].shape == std::vector<int64_t>{2, 32});
      CHECK(got.tensors[0].dtype == DType::q4_0);
      CHECK(got.tensors[0].data.size() == 36);
      CHECK(char(got.tensors[1].data[0]) == 'b');
      CHECK(is_gguf(dir / "t.gguf"));
    }
  }
  // The last tensor's padding may be missing.
  std::string bytes = small().bytes();
  bytes.resize(bytes.size() - 20);
  CHECK(error_of(dir, bytes) == "");
}

TEST_CASE("gguf: bad files are refused with one line that names what is wrong", "[gguf]") {
  TempDir dir;
  const std::string good = small().bytes();
  std::vector<Bad> bad = {
      {"", "not a GGUF file"},
      {"GGU", "not a GGUF file"},
      {"GGML" + good.substr(4), "not a GGUF file"},
      {"GGUF", "version"},
      {"GGUF" + raw(uint32_t(1)) + good.substr(8), "version 1 is not supported: 2 and 3"},
      {"GGUF" + raw(uint32_t(4)) + good.substr(8), "version 4"},
      {"GGUF" + raw(uint32_t(0)) + good.substr(8), "version 0"},
      {"GGUF" + std::string("\0\0\0\3", 4) + good.substr(8), "big-endian"},
      {good.substr(0, 8) + raw(UINT64_MAX) + good.substr(16), "tensor"},
      {good.substr(0, 16) + raw(UINT64_MAX) + good.substr(24), "key"},
      {good.substr(0, 24) + raw(UINT64_MAX) + good.substr(32), "65535 at most"},
      {good.substr(0, 24) + raw(uint64_t(60000)) + good.substr(32), "past the file"},
      changed([](GgufBuilder& b) { b.set("x", 13, "1234"); }, "\"x\": type 13"),
      changed([](GgufBuilder& b) { b.set("x", 9, raw(uint32_t(9)) + raw(uint64_t(0))); }, "arrays of arrays"),
      changed([](GgufBuilder& b) { b.set("x", 9, raw(uint32_t(10)) + raw(UINT64_MAX / 4)); }, "overflow"),
      changed([](GgufBuilder& b) { b.set("x", 9, raw(uint32_t(0)) + raw(uint64_t(1) << 40)); },
              "past the file"),
      changed([](GgufBuilder& b) { b.set("x", 9, raw(uint32_t(8)) + raw(UINT64_MAX)); }, "\"x\""),
      changed([](GgufBuilder& b) { b.set("x", 8, raw(UINT64_MAX)); }, "at most"),
      changed([](GgufBuilder& b) { b.integer("general.alignment", 0); }, "general.alignment: 0"),
      changed([](GgufBuilder& b) { b.integer("general.alignment", 24); }, "24 is not a power of two"),
      changed([](GgufBuilder& b) { b.text("general.alignment", "32"); }, "expected an integer, found STRING"),
      changed([](GgufBuilder& b) { b.integer("general.alignment", 1u << 21); }, "out of range"),
      changed([](GgufBuilder& b) { b.entry("a").shape = {}; }, "0 dimensions: 1 to 4"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").shape = {1, 1, 1, 2, 32};
          },
          "5 dimensions"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").shape = {0, 32};
          },
          "0 is out of range"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").shape = {uint64_t(1) << 40, uint64_t(1) << 40};
          },
          "overflow"),
      changed([](GgufBuilder& b) { b.entry("b").shape = {uint64_t(1) << 62}; }, "overflow"),
      changed([](GgufBuilder& b) { b.entry("a").shape = {UINT64_MAX}; }, "out of range"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").shape = {64, 1};
          },
          "do not fill blocks of Q4_0: 32"),
      changed([](GgufBuilder& b) { b.entry("a").type = 4; }, "type 4 is not a GGUF tensor type"),
      changed([](GgufBuilder& b) { b.entry("a").type = 0xffffffff; }, "is not a GGUF tensor type"),
      changed([](GgufBuilder& b) { b.entry("b").offset = 8; }, "begins at 8: a multiple of 32"),
      changed([](GgufBuilder& b) { b.entry("b").offset = 32; }, "inside tensor \"a\", which ends at 36"),
      changed([](GgufBuilder& b) { b.entry("b").offset = 0; }, "inside tensor"),
      changed([](GgufBuilder& b) { b.entry("b").offset = UINT64_MAX - 31; }, "past the file"),
      changed([](GgufBuilder& b) { b.entry("b").offset = 96; }, "past the file"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").offset = 64;
            b.entry("b").offset = 64;
          },
          "tensor"),
      changed(
          [](GgufBuilder& b) {
            b.entry("a").shape = {4, 32};
          },
          "inside tensor"),
      changed([](GgufBuilder& b) { b.entry("b").shape = {30}; }, "past the file"),
      changed([](GgufBuilder& b) { b.entry("b").name = "a"; }, "there twice"),
      changed([](GgufBuilder& b) { b.entry("b").name = std::string(2000, 'x'); }, "1024 at most"),
      changed(
          [](GgufBuilder& b) {
            b.tensor("c", {8}, 0, std::string(32, 'c')).entries().erase(b.entries().begin() + 1);
            b.entry("c").offset = 96;
            b.behind = std::string(64, 0);
          },
          "hole of 32 bytes"),
      changed([](GgufBuilder& b) { b.behind = "x"; }, "1 bytes behind the last tensor"),
  };
  // The second key under the first one's name.
  {
    std::string twice = good;
    const size_t at = twice.find("llama.block_count");
    twice.replace(at - 8, 8 + 17, raw_string("general.architecture"));
    bad.push_back({twice, "\"general.architecture\": there twice"});
  }
  for (size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i, bad[i].says);
    CHECK_THAT(error_of(dir, bad[i].bytes), ContainsSubstring(bad[i].says));
  }
  // Cut anywhere, up to the last tensor's last byte.
  const size_t used = good.size() - 20;
  for (size_t n = 0; n < used; ++n) {
    CAPTURE(n);
    CHECK(error_of(dir, good.substr(0, n)) != "");
  }
}

TEST_CASE("gguf: values of the wrong type are refused by their key", "[gguf]") {
  TempDir dir;
  GgufBuilder b = small();
  b.array<int32_t>("differ", 5, {1, 2}).set("bool2", 7, "\2").number("inf", HUGE_VALF);
  b.text("bad", "a\xff").array<int32_t>("none", 5, {});
  b.write(dir / "t.gguf");
  const MappedFile file(dir / "t.gguf");
  const GgufMetadata m = read_gguf(file).metadata;
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] { m.integer("absent", 1, 5); }, "absent: missing: an integer from 1 to 5"},
      {[&] { m.integer("llama.block_count", 3, 5); }, "llama.block_count: 2 is out of range: 3 to 5"},
      {[&] { m.integer("eps", 0, 1); }, "eps: expected an integer, found FLOAT32"},
      {[&] { m.integer("differ", 0, 9); }, "differ: 1 and 2: layers that differ are not supported"},
      {[&] { m.integer("none", 0, 9); }, "none: expected an integer, found an array of INT32"},
      {[&] { m.number("llama.block_count"); }, "expected a number, found UINT32"},
      {[&] { m.number("inf"); }, "finite"},
      {[&] { m.flag("bool2", true); }, "byte 2"},
      {[&] { m.flag("eps", true); }, "expected BOOL, found FLOAT32"},
      {[&] { m.text("eps", ""); }, "expected a string, found FLOAT32"},
      {[&] { m.text("bad", ""); }, "bad: string 0 is not UTF-8: byte 0xFF at 1"},
      {[&] { m.texts("differ"); }, "expected an array of strings, found an array of INT32"},
      {[&] { m.texts("absent"); }, "absent: missing"},
      {[&] { m.integers("general.architecture"); }, "expected an array of integers"},
      {[&] { m.numbers("differ"); }, "expected an array of FLOAT32"},
  };
  for (const auto& [act, says] : cases) {
    CAPTURE(says);
    try {
      act();
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(e.code == Exit::input);
      CHECK_THAT(e.what(), ContainsSubstring(says));
    }
  }
}
