#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace blockgtq {

/// How numbers are stored: floats, GGUF's blocks of quantized numbers (gguf_blocks.h), or small floats whose
/// scales are another tensor of the folder (scale_grid.h). other: a known type that is not read.
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

/// The smallest unit that can be read: one float, a block of quantized numbers with their scales, or two
/// floats of 4 bits.
struct BlockSize {
  int64_t elements = 1, bytes = 0;
};
BlockSize block_size(DType);    // not of `other`
bool is_quantized(DType);       // blocks, or numbers with scales
std::string supported_types();  // the names of all that are read from a GGUF file: "F32, F16, ..."
std::string shape_text(const std::vector<int64_t>& shape);  // "(2048, 128)"

struct ScaleGrid;

/// A tensor in a mapped file; row-major. A row of a quantized tensor is whole blocks.
struct Tensor {
  std::string name;
  DType dtype = DType::other;
  std::string dtype_name;      // as the file spells it: "BF16", "F8_E4M3", ...
  std::vector<int64_t> shape;  // may be empty (a scalar)
  std::span<const std::byte>
      data;               // of these rows; where rows are permuted, of their whole heads or matrices
  int64_t first_row = 0;  // index of its first row (of the last dimension) in the whole tensor

  // llama.cpp's converter interleaves the two halves of a head's rows: row i of the first half, row i of the
  // second, and so on. Readers address a row by its place before that.
  int64_t paired_rows = 0;  // rows of a head; 0: not interleaved

  std::shared_ptr<const ScaleGrid> grid;  // of f8_e4m3 and f4_e2m1: the scales of the whole tensor

  int64_t elements() const;
  int64_t row_elements() const;  // of one index of the first dimension
  int64_t row_bytes() const;     // as stored
  int64_t stored_bytes() const;  // of these rows, with their scales
  /// The index, among the rows of `data`, of a row.
  int64_t stored_row(int64_t row) const;

  /// Rows [first, first + n) of a tensor of one or two dimensions; so a fused projection is split. A tensor
  /// without data, which is a shape alone, gives another such.
  Tensor rows(int64_t first, int64_t n) const;
  /// out[i] = element first + i, as float32.
  void read(int64_t first, int64_t n, float* out) const;
  /// Elements first to first + n as they are stored. Of a quantized tensor these must be whole blocks.
  void copy(int64_t first, int64_t n, std::byte* out) const;
  /// The stored bytes that these elements are read from, and perhaps some more beside them.
  std::span<const std::byte> extent(int64_t first, int64_t n) const;

 private:
  int64_t rows_together() const;  // rows of a head or matrix that are permuted; 0: no permutation
  template <class Body>
  void over_stored(int64_t first, int64_t n, const Body& body) const;
};

}  // namespace blockgtq
