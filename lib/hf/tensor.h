#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace blockgtq {

/// How numbers are stored: floats, GGUF's blocks of quantized numbers (gguf_blocks.h), or small floats whose
/// scales are another tensor of the folder (scale_grid.h); other: known, not read.
enum class DType {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  f8_e4m3,
  f4_e2m1,
  other
};
const char* name(DType);

/// What can be taken apart least: one float, a block of quantized numbers with their scales, two floats of 4
/// bits.
struct BlockSize {
  int64_t elements = 1, bytes = 0;
};
BlockSize block_size(DType);    // not of `other`
bool is_quantized(DType);       // more is stored than the numbers themselves
std::string supported_types();  // the names of all that are read from a GGUF file: "F32, F16, ..."
std::string shape_text(const std::vector<int64_t>& shape);  // "(2048, 128)"

struct ScaleGrid;

/// A tensor where it lies in a mapped file; row-major, a row of a quantized one in whole blocks.
struct Tensor {
  std::string name;
  DType dtype = DType::other;
  std::string dtype_name;           // as the file spells it: "BF16", "F8_E4M3", ...
  std::vector<int64_t> shape;       // may be empty (a scalar)
  std::span<const std::byte> data;  // of its rows; of their whole heads or matrices where these lie otherwise
  int64_t first_row = 0;  // its first one among the rows (of the last dimension) of the whole tensor

  // llama.cpp's converter lays the rows of a head's halves alternately: row i of the first half, row i of the
  // second. Who reads a row asks for it by its place before that.
  int64_t paired_rows = 0;  // of a head; 0: rows lie in order

  std::shared_ptr<const ScaleGrid> grid;  // of f8_e4m3 and f4_e2m1: the scales of the whole tensor

  int64_t elements() const;
  int64_t row_elements() const;  // of one step of the first dimension
  int64_t row_bytes() const;     // as stored
  int64_t stored_bytes() const;  // with the scales of these rows
  /// Where a row lies among the rows of `data`.
  int64_t stored_row(int64_t row) const;

  /// Rows [first, first + n) of a tensor of one or two dimensions (a fused projection is taken apart so). A
  /// tensor without data, a shape alone, gives such.
  Tensor rows(int64_t first, int64_t n) const;
  /// out[i] = element first + i, as float32.
  void read(int64_t first, int64_t n, float* out) const;
  /// Elements first to first + n as they are stored; of a quantized tensor in whole blocks.
  void copy(int64_t first, int64_t n, std::byte* out) const;
  /// The stored bytes that these elements are read from, and at most some more beside them.
  std::span<const std::byte> extent(int64_t first, int64_t n) const;

 private:
  int64_t rows_together() const;  // rows of a head or matrix that lies otherwise; 0: every row by itself
  template <class Body>
  void over_stored(int64_t first, int64_t n, const Body& body) const;
};

}  // namespace blockgtq
