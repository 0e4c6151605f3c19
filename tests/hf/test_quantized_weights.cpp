// quantized_weights.safetensors: FP8 and MXFP4 tensors and the numbers that transformers finds in them
// (make_quantized_weights.py); and a table of bad folders.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/expect_error.h"
#include "catch.h"
#include "config_samples.h"
#include "hf/checkpoint.h"
#include "safetensors_builder.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr const char* kFp8 = R"({"quant_method": "fp8", "weight_block_size": [16, 16]})";
constexpr const char* kMxfp4 = R"({"quant_method": "mxfp4"})";

void write_config(const TempDir& dir, const std::string& quantization) {
  write_bytes(dir / "config.json", patched(kQwen3, R"({"quantization_config": )" + quantization + "}"));
}

std::vector<float> read_all(const Tensor& tensor) {
  std::vector<float> out(size_t(tensor.elements()));
  tensor.read(0, tensor.elements(), out.data());
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// One matrix of a tensor of several, as two dimensions.
Tensor flat(Tensor tensor) {
  tensor.shape = {tensor.elements() / tensor.shape.back(), tensor.shape.back()};
  return tensor;
}

/// The numbers are those of `want`, read as a whole, in parts, and by rows of rows.
void check_numbers(const Tensor& tensor, const std::vector<float>& want) {
  REQUIRE(tensor.elements() == int64_t(want.size()));
  CHECK(same_bits(read_all(tensor), want));
  const int64_t n = tensor.elements();
  for (int64_t first = 0; first < n; first += 7) {
    std::vector<float> part(size_t(std::min<int64_t>(n - first, first % 61)));
    tensor.read(first, int64_t(part.size()), part.data());
    REQUIRE(same_bits(part, {want.begin() + first, want.begin() + first + int64_t(part.size())}));
  }
  const Tensor rows = flat(tensor);
  const int64_t cols = rows.shape[1];
  for (int64_t first = 0; first < rows.shape[0]; first += 5) {
    for (const int64_t skip : {0, 1, 3}) {
      const int64_t count = std::min<int64_t>(rows.shape[0] - first, 18);
      if (skip >= count) continue;
      const Tensor part = rows.rows(first, count).rows(skip, count - skip);
      REQUIRE(same_bits(read_all(part),
                        {want.begin() + (first + skip) * cols, want.begin() + (first + count) * cols}));
    }
  }
}

}  // namespace

TEST_CASE("numbers of FP8 and MXFP4 folders are those of transformers, bit for bit", "[quantized]") {
  TempDir dir;
  fs::copy(fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/hf/quantized_weights.safetensors",
           dir / "model.safetensors");
  const auto check = [&](const Checkpoint& model, const std::string& name, const std::string& dtype) {
    CAPTURE(name);
    const Tensor& values = *model.find("values." + name);
    const Tensor& tensor = model.get(name, values.shape);
    CHECK(tensor.dtype_name == dtype);
    check_numbers(tensor, read_all(values));
    model.prefetch(tensor);
    model.release(tensor);
    check_numbers(tensor, read_all(values));
  };
  SECTION("fp8") {
    write_config(dir, kFp8);
    const Checkpoint model(dir.path());
    for (const char* name : {"codes.weight", "block.weight", "ragged.weight", "experts.gate_up_proj"}) {
      check(model, name, "F8_E4M3");
      CHECK(model.find(name + std::string("_scale_inv")) == nullptr);
    }
  }
  SECTION("mxfp4") {
    write_config(dir, kMxfp4);
    const Checkpoint model(dir.path());
    check(model, "gate_up_proj", "MXFP4");
    CHECK(model.find("gate_up_proj")->shape == std::vector<int64_t>{2, 96, 6});
    CHECK(model.find("gate_up_proj_blocks") == nullptr);
    CHECK(model.find("gate_up_proj_scales") == nullptr);
    const Tensor second = flat(*model.find("gate_up_proj")).rows(96, 96);
    CHECK(second.data.size() == 6 * 96 / 2);  // no more than the matrix is taken from the file
    CHECK(second.stored_bytes() == 6 * 96 / 2 + 6 * 3);
  }
}

TEST_CASE("an MXFP4 scale that is no number makes its numbers NaN", "[quantized]") {
  TempDir dir;
  write_config(dir, kMxfp4);
  SafetensorsBuilder()
      .add("x_blocks", "U8", {1, 2, 1, 16}, std::string(32, '\x22'))
      .add("x_scales", "U8", {1, 2, 1}, "\x7f\xff")
      .write(dir / "model.safetensors");
  const std::vector<float> got = read_all(*Checkpoint(dir.path()).find("x"));
  for (size_t i = 0; i < got.size(); i += 2) {
    CHECK(got[i] == 1);
    CHECK(std::isnan(got[i + 1]));
  }
}

TEST_CASE("scales of compressed-tensors: of a row, of a matrix, of blocks", "[quantized]") {
  const auto config = [](const std::string& weights) {
    return R"({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"g":
      {"weights": {"type": "float", "num_bits": 8, )" +
           weights + "}}}}";
  };
  const std::string ones(6, '\x38'), one("\0\0\x80\x3f", 4), two("\0\0\0\x40", 4), half("\x80\x3f", 2);
  struct Case {
    std::string weights, dtype;
    std::vector<int64_t> shape;
    std::string scales;
    std::vector<float> want;
  };
  const std::vector<Case> cases = {
      {R"("strategy": "channel")", "F32", {2, 1}, one + two, {1, 1, 1, 2, 2, 2}},
      {R"("strategy": "channel")", "BF16", {2, 1}, half + std::string("\0\x40", 2), {1, 1, 1, 2, 2, 2}},
      {R"("strategy": "channel")", "F16", {2, 1}, std::string("\0\x3c\0\x40", 4), {1, 1, 1, 2, 2, 2}},
      {R"("strategy": "tensor")", "F32", {1}, two, {2, 2, 2, 2, 2, 2}},
      {R"("strategy": "tensor")", "F32", {}, two, {2, 2, 2, 2, 2, 2}},
      {R"("strategy": "tensor")", "F32", {1, 1}, two, {2, 2, 2, 2, 2, 2}},
      {R"("strategy": "block", "block_structure": [2, 2])", "F32", {1, 2}, one + two, {1, 1, 2, 1, 1, 2}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.weights, c.dtype, c.shape);
    TempDir dir;
    write_config(dir, config(c.weights));
    SafetensorsBuilder b;
    b.add("a.weight_scale", c.dtype, c.shape, c.scales).add("a.weight", "F8_E4M3", {2, 3}, ones);
    b.add("a.input_scale", "F32", {1}, one).add("k_scale", "F32", {1}, one).add_bf16("b.weight", {2, 3});
    b.write(dir / "model.safetensors");
    const Checkpoint model(dir.path());
    CHECK(read_all(model.get("a.weight", {2, 3})) == c.want);
    CHECK(read_all(model.get("b.weight", {2, 3})) == std::vector<float>(6, 1));
    CHECK(model.tensors().size() == 3);  // k_scale: of the cache, and of no weight here
    CHECK(model.weight_bytes() == int64_t(6 + c.scales.size() + 4 + 12));
  }
}

TEST_CASE("quantized folders that are not whole are refused with one line", "[quantized]") {
  const auto fp8 = [](const std::string& dtype, const std::vector<int64_t>& shape,
                      const std::string& scales) {
    SafetensorsBuilder b;
    b.add("m.weight", "F8_E4M3", {20, 33}, std::string(660, '8'));
    return b.add("m.weight_scale_inv", dtype, shape, scales);
  };
  const auto good = [&] { return fp8("F32", {2, 3}, std::string(24, 'x')); };
  const auto mxfp4 = [](const std::string& dtype, const std::vector<int64_t>& blocks,
                        const std::vector<int64_t>& scales) {
    const auto zeros = [](const std::vector<int64_t>& shape) {
      int64_t n = 1;
      for (int64_t d : shape) n *= d;
      return std::string(size_t(n), '\0');
    };
    return SafetensorsBuilder()
        .add("x_blocks", dtype, blocks, zeros(blocks))
        .add("x_scales", "U8", scales, zeros(scales));
  };
  const std::string nan = std::string(20, 'x') + std::string("\0\0\xc0\x7f", 4);
  struct Case {
    const char* config;
    SafetensorsBuilder file;
    const char* says;
  };
  const std::vector<Case> cases = {
      {kFp8, SafetensorsBuilder().add("m.weight", "F8_E4M3", {2, 2}, "8888"),
       "tensor \"m.weight\": F8_E4M3 without scales: \"m.weight_scale_inv\" is missing"},
      {kFp8,
       SafetensorsBuilder().add("m.weight", "F8_E4M3", {2, 2}, "8888").add_bf16("m.weight_scale", {1, 1}),
       "\"m.weight_scale_inv\" is missing"},
      {kFp8, fp8("F32", {3, 2}, std::string(24, 'x')),
       "tensor \"m.weight_scale_inv\": shape (3, 2), scales of (20, 33) are (2, 3)"},
      {kFp8, fp8("F32", {1, 3}, std::string(12, 'x')), "shape (1, 3), scales of (20, 33) are (2, 3)"},
      {kFp8, fp8("F32", {6}, std::string(24, 'x')), "shape (6), scales of (20, 33) are (2, 3)"},
      {kFp8, fp8("F32", {}, "xxxx"), "shape (), scales of (20, 33) are (2, 3)"},
      {kFp8, fp8("F8_E8M0", {2, 3}, "xxxxxx"), "scales of dtype F8_E8M0 are not supported: F32, F16, BF16"},
      {kFp8, fp8("F32", {2, 3}, nan), "tensor \"m.weight_scale_inv\": scale 2 of row 1 is not finite: nan"},
      {kFp8, fp8("BF16", {2, 3}, std::string("\x80\x7f", 2) + std::string(10, '\0')),
       "scale 0 of row 0 is not finite: inf"},
      {kFp8, good().add_bf16("v.weight", {2}).add_bf16("v.weight_scale_inv", {1}),
       "tensor \"v.weight\": BF16 with scales: F8_E4M3"},
      {kFp8, SafetensorsBuilder().add("v.weight", "F8_E4M3", {4}, "8888").add_bf16("v.weight_scale_inv", {1}),
       "tensor \"v.weight\": shape (4): scales are of matrices"},
      {kFp8, good().add_bf16("m.weight_zero_point", {2, 3}),
       "tensor \"m.weight_zero_point\": zero points are not supported: none"},
      {kMxfp4, SafetensorsBuilder().add("x_blocks", "U8", {1, 1, 1, 16}, std::string(16, 'x')),
       "tensor \"x_blocks\": U8 without scales: \"x_scales\" is missing"},
      {kMxfp4, SafetensorsBuilder().add("x_scales", "U8", {1, 1, 1}, "x"),
       "tensor \"x_scales\": scales without blocks: \"x_blocks\" is missing"},
      {kMxfp4, mxfp4("I8", {1, 1, 1, 16}, {1, 1, 1}), "tensor \"x_blocks\": dtype I8: U8"},
      {kMxfp4, mxfp4("U8", {1, 1, 1, 8}, {1, 1, 1}), "shape (1, 1, 1, 8): (experts, rows, blocks, 16)"},
      {kMxfp4, mxfp4("U8", {1, 16}, {1}), "shape (1, 16): (experts, rows, blocks, 16)"},
      {kMxfp4, mxfp4("U8", {0, 1, 1, 16}, {0, 1, 1}), "shape (0, 1, 1, 16): (experts"},
      {kMxfp4, mxfp4("U8", {1, 2, 1, 16}, {1, 1, 2}),
       "tensor \"x_scales\": shape (1, 1, 2), the blocks are (1, 2, 1, 16)"},
      {kMxfp4, mxfp4("U8", {1, 1, 1, 16}, {1, 1, 1}).add_bf16("x", {1}), "\"x\" is there too: one of them"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.says);
    TempDir dir;
    write_config(dir, c.config);
    c.file.write(dir / "model.safetensors");
    const std::string what = expect_error(Exit::input, [&] { Checkpoint(dir.path()); });
    CHECK_THAT(what, ContainsSubstring("model.safetensors: tensor "));
    CHECK_THAT(what, ContainsSubstring(c.says));
  }
}

TEST_CASE("scales may lie in another shard than their weight", "[quantized]") {
  TempDir dir;
  write_config(dir, kFp8);
  SafetensorsBuilder().add("a.weight", "F8_E4M3", {1, 2}, "88").write(dir / "1.safetensors");
  SafetensorsBuilder().add_bf16("a.weight_scale_inv", {1, 1}, 0x4000).write(dir / "2.safetensors");
  write_bytes(dir / "model.safetensors.index.json",
              R"({"weight_map": {"a.weight": "1.safetensors", "a.weight_scale_inv": "2.safetensors"}})");
  const Checkpoint model(dir.path());
  const Tensor& tensor = model.get("a.weight", {1, 2});
  CHECK(read_all(tensor) == std::vector<float>{2, 2});
  model.prefetch(tensor);
  model.release(tensor);
  CHECK(read_all(tensor) == std::vector<float>{2, 2});
}
