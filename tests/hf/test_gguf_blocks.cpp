// gguf_blocks.safetensors: random blocks and the numbers that the `gguf` Python package finds in them
// (make_gguf_blocks.py).
#include <cstring>
#include <map>

#include "base/file.h"
#include "catch.h"
#include "hf/gguf_blocks.h"
#include "hf/safetensors.h"

using namespace blockgtq;

namespace {

constexpr DType kTypes[] = {DType::f16,  DType::bf16, DType::q8_0,   DType::q4_0,   DType::q4_1,
                            DType::q5_0, DType::q5_1, DType::q2_k,   DType::q3_k,   DType::q4_k,
                            DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

struct Golden {
  MappedFile file{fs::path(BLOCKGTQ_SOURCE_DIR) / "tests/hf/gguf_blocks.safetensors"};
  std::map<std::string, Tensor> tensors;
  Golden() {
    for (Tensor& t : read_safetensors(file)) tensors[t.name] = t;
  }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("numbers of every block type are those of the gguf package, bit for bit", "[gguf][gguf_blocks]") {
  const Golden golden;
  REQUIRE(golden.tensors.size() == 2 * std::size(kTypes));
  for (const DType type : kTypes) {
    CAPTURE(name(type));
    const Tensor& blocks = golden.tensors.at(std::string(name(type)) + ".blocks");
    const Tensor& values = golden.tensors.at(std::string(name(type)) + ".values");
    REQUIRE(blocks.shape[1] == block_size(type).bytes);
    REQUIRE(values.shape[1] == block_size(type).elements);
    std::vector<float> want(size_t(values.elements()));
    values.read(0, values.elements(), want.data());

    Tensor tensor;
    tensor.dtype = type;
    tensor.shape = {blocks.shape[0], values.shape[1]};
    tensor.data = blocks.data;
    std::vector<float> got(want.size());
    tensor.read(0, tensor.elements(), got.data());
    CHECK(same_bits(got, want));

    // From anywhere to anywhere.
    for (const auto& [first, n] : {std::pair<int64_t, int64_t>{1, 30}, {17, 40}, {31, 1}, {5, 58}, {9, 0}}) {
      std::vector<float> part(static_cast<size_t>(n));
      tensor.read(first, n, part.data());
      CHECK(same_bits(part, {want.begin() + first, want.begin() + first + n}));
    }
  }
}

TEST_CASE("rows that a converter laid in pairs are read in their own order", "[gguf][tensor]") {
  // Two heads of four rows of three: stored row 4h + 2i + j is row i of half j.
  std::vector<float> stored(24);
  for (int h = 0; h < 2; ++h)
    for (int j = 0; j < 2; ++j)
      for (int i = 0; i < 2; ++i)
        for (int c = 0; c < 3; ++c)
          stored[size_t((h * 4 + 2 * i + j) * 3 + c)] = float(h * 12 + (j * 2 + i) * 3 + c);
  Tensor tensor;
  tensor.dtype = DType::f32;
  tensor.shape = {8, 3};
  tensor.paired_rows = 4;
  tensor.data = std::as_bytes(std::span(stored));
  for (int64_t first = 0; first < 24; ++first) {
    for (int64_t n = 0; first + n <= 24; ++n) {
      std::vector<float> got(static_cast<size_t>(n)), copied(static_cast<size_t>(n));
      tensor.read(first, n, got.data());
      tensor.copy(first, n, reinterpret_cast<std::byte*>(copied.data()));
      for (int64_t i = 0; i < n; ++i) REQUIRE(got[size_t(i)] == float(first + i));
      CHECK(copied == got);
    }
  }
  for (int64_t first = 0; first < 8; ++first) {
    for (int64_t n = 1; first + n <= 8; ++n) {
      const Tensor part = tensor.rows(first, n);
      for (int64_t skip = 0; skip < n; ++skip) {
        const Tensor rest = part.rows(skip, n - skip);
        std::vector<float> got(size_t(rest.elements()));
        rest.read(0, rest.elements(), got.data());
        for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == float((first + skip) * 3) + float(i));
      }
    }
  }
  CHECK(tensor.rows(4, 4).data.size() == 48);  // whole heads are taken from the file, no more
  CHECK(tensor.rows(3, 2).data.size() == 96);
  CHECK(tensor.extent(3, 9).size() == 48);
}

TEST_CASE("blocks are copied as they lie, rows in their own order", "[gguf][tensor]") {
  const Golden golden;
  const Tensor& blocks = golden.tensors.at("Q8_0.blocks");
  const int64_t rows = blocks.shape[0] / 2 * 2;  // of one block each, in pairs of one head
  Tensor tensor;
  tensor.dtype = DType::q8_0;
  tensor.shape = {rows, 32};
  tensor.paired_rows = rows;
  tensor.data = blocks.data.first(size_t(rows * 34));
  std::vector<std::byte> copied(tensor.data.size());
  tensor.copy(0, tensor.elements(), copied.data());
  std::vector<float> want(size_t(tensor.elements())), got(want.size());
  tensor.read(0, tensor.elements(), want.data());
  tensor.paired_rows = 0;
  tensor.data = copied;
  tensor.read(0, tensor.elements(), got.data());
  CHECK(same_bits(got, want));
  CHECK_THROWS_AS(tensor.copy(1, 32, copied.data()), std::logic_error);
}
