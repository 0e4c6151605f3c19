#include "hf/tensor.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/float16.h"
#include "hf/gguf_blocks.h"
#include "hf/scale_grid.h"

namespace blockgtq {

namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  BlockSize size;
};

constexpr std::array<DTypeRow, 19> kDTypes = {{
    {DType::f32, "F32", {1, 4}},           {DType::f16, "F16", {1, 2}},
    {DType::bf16, "BF16", {1, 2}},         {DType::q8_0, "Q8_0", {32, 34}},
    {DType::q4_0, "Q4_0", {32, 18}},       {DType::q4_1, "Q4_1", {32, 20}},
    {DType::q5_0, "Q5_0", {32, 22}},       {DType::q5_1, "Q5_1", {32, 24}},
    {DType::q2_k, "Q2_K", {256, 84}},      {DType::q3_k, "Q3_K", {256, 110}},
    {DType::q4_k, "Q4_K", {256, 144}},     {DType::q5_k, "Q5_K", {256, 176}},
    {DType::q6_k, "Q6_K", {256, 210}},     {DType::iq4_nl, "IQ4_NL", {32, 18}},
    {DType::iq4_xs, "IQ4_XS", {256, 136}}, {DType::mxfp4, "MXFP4", {32, 17}},
    {DType::f8_e4m3, "F8_E4M3", {1, 1}},   {DType::f4_e2m1, "F4_E2M1", {2, 1}},
    {DType::other, "other", {1, 0}},
}};

const DTypeRow& row_of(DType dtype) {
  return *std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeRow& r) { return r.dtype == dtype; });
}

/// Reads n quantized numbers from `first` on, which need not be the beginning of a block.
void read_blocks(DType dtype, const std::byte* data, int64_t first, int64_t n, float* out) {
  const BlockSize size = block_size(dtype);
  std::array<float, kMaxGgufBlock> whole;
  for (int64_t i = 0; i < n;) {
    const int64_t block = (first + i) / size.elements, skip = (first + i) % size.elements;
    const std::byte* at = data + block * size.bytes;
    if (skip == 0 && n - i >= size.elements) {
      const int64_t n_blocks = (n - i) / size.elements;
      dequantize(dtype, at, n_blocks, out + i);
      i += n_blocks * size.elements;
    } else {
      const int64_t m = std::min(n - i, size.elements - skip);
      dequantize(dtype, at, 1, whole.data());
      std::copy_n(whole.data() + skip, m, out + i);
      i += m;
    }
  }
}

void read_floats(DType dtype, const std::byte* data, int64_t first, int64_t n, float* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, data + first * 4, size_t(n) * 4);
    return;
  }
  // Nothing promises that a tensor begins at an even byte, so it is copied through an aligned buffer.
  constexpr int64_t kBlock = 1024;
  std::array<uint16_t, kBlock> raw;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t m = std::min(kBlock, n - i);
    std::memcpy(raw.data(), data + (first + i) * 2, size_t(m) * 2);
    if (dtype == DType::bf16) {
      from_bf16(raw.data(), size_t(m), out + i);
    } else {
      from_half(raw.data(), size_t(m), out + i);
    }
  }
}

}  // namespace

const char* name(DType dtype) {
  return row_of(dtype).name;
}

BlockSize block_size(DType dtype) {
  check(dtype != DType::other, "block_size: not a type that is read");
  return row_of(dtype).size;
}

bool is_quantized(DType dtype) {
  return dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::other;
}

std::string supported_types() {
  std::string out;
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == DType::f8_e4m3) break;  // folders have those; others are not read
    out += (out.empty() ? "" : ", ") + std::string(row.name);
  }
  return out;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (int64_t n : shape) out += (out.empty() ? "" : ", ") + std::to_string(n);
  return "(" + out + ")";
}

int64_t Tensor::elements() const {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

int64_t Tensor::row_elements() const {
  int64_t n = 1;
  for (size_t i = 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

int64_t Tensor::row_bytes() const {
  const BlockSize size = block_size(dtype);
  return row_elements() / size.elements * size.bytes;
}

int64_t Tensor::stored_bytes() const {
  return int64_t(data.size() + (grid ? scale_extent(*this).size() : 0));
}

int64_t Tensor::rows_together() const {
  return dtype == DType::f4_e2m1 ? grid->cols : paired_rows;
}

int64_t Tensor::stored_row(int64_t row) const {
  if (paired_rows == 0) return row;
  const int64_t at = first_row % paired_rows + row, head = at / paired_rows * paired_rows, in = at - head;
  return head + in % (paired_rows / 2) * 2 + in / (paired_rows / 2);
}

/// Calls body(first stored element, n, offset from `first`) for every contiguous stretch.
template <class Body>
void Tensor::over_stored(int64_t first, int64_t n, const Body& body) const {
  check(first >= 0 && n >= 0 && first <= elements() - n, "Tensor: outside the tensor");
  check(dtype != DType::other, "Tensor: of a type that is not read");
  if (paired_rows == 0) return body(first, n, int64_t(0));
  const int64_t cols = row_elements();
  for (int64_t i = 0; i < n;) {
    const int64_t col = (first + i) % cols, m = std::min(n - i, cols - col);
    body(stored_row((first + i) / cols) * cols + col, m, i);
    i += m;
  }
}

Tensor Tensor::rows(int64_t first, int64_t n) const {
  check(shape.size() == 1 || shape.size() == 2, "Tensor::rows: one or two dimensions");
  check(first >= 0 && n >= 0 && first <= shape[0] - n, "Tensor::rows: outside the tensor");
  check(dtype != DType::other, "Tensor::rows: of a type that is not read");
  Tensor out = *this;
  out.shape[0] = n;
  out.first_row = first_row + first;
  if (!data.empty()) out.data = extent(first * row_elements(), n * row_elements());
  return out;
}

void Tensor::read(int64_t first, int64_t n, float* out) const {
  if (grid) return read_scaled(*this, first, n, out);
  over_stored(first, n, [&](int64_t stored, int64_t m, int64_t offset) {
    (is_quantized(dtype) ? read_blocks : read_floats)(dtype, data.data(), stored, m, out + offset);
  });
}

void Tensor::copy(int64_t first, int64_t n, std::byte* out) const {
  const BlockSize size = block_size(dtype);
  check(first % size.elements == 0 && n % size.elements == 0, "Tensor::copy: parts of a block");
  const auto bytes = [&](int64_t elements) { return elements / size.elements * size.bytes; };
  over_stored(first, n, [&](int64_t stored, int64_t m, int64_t offset) {
    std::memcpy(out + bytes(offset), data.data() + bytes(stored), size_t(bytes(m)));
  });
}

std::span<const std::byte> Tensor::extent(int64_t first, int64_t n) const {
  if (n == 0) return data.subspan(0, 0);
  const BlockSize size = block_size(dtype);
  int64_t begin = first, end = first + n;
  if (const int64_t together = rows_together(); together != 0) {
    const int64_t cols = shape.size() > 1 ? shape.back() : 1;
    const int64_t head = together * cols, skipped = first_row % together * cols;
    begin = (begin + skipped) / head * head;
    end = (end + skipped + head - 1) / head * head;
  }
  begin = begin / size.elements * size.bytes;
  end = (end + size.elements - 1) / size.elements * size.bytes;
  return data.subspan(size_t(begin), size_t(end - begin));
}

}  // namespace blockgtq
